import { beforeAll, describe, expect, test } from "vitest";
import { LlamaForCausalLM } from "../../models/llama.ts";
import { beamSearch } from "../../src/generate/beam.ts";
import type { NewToken } from "../../src/generate/draw.ts";
import { generate, generateText, generateTokens, steps, textPrompt } from "../../src/generate/generate.ts";
import type { GenerateOptions } from "../../src/generate/options.ts";
import { init, manualSeed, memoryStats, tensor } from "../../src/index.ts";
import { trainBPE } from "../../src/text/bpe.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";

const config = {
  vocab_size: 23,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  eos_token_id: 2,
};

let model: LlamaForCausalLM;
async function setUp(backend: "reference" | "webgpu", vocabulary = config.vocab_size): Promise<void> {
  await init({ backend });
  manualSeed(11);
  model = new LlamaForCausalLM({ ...config, vocab_size: vocabulary });
}

const prompts = [[5, 6, 7, 5, 6], [8, 9, 10, 11, 12, 13, 8, 9], [14]];
const run = (options: GenerateOptions = {}, ids: readonly number[][] = prompts) =>
  generate(model, textPrompt(model, ids), { maxNewTokens: 12, eosTokenId: [], ...options });

/** Logits after `ids`, by a pass over all of them. */
async function logitsAfter(ids: readonly number[]): Promise<number[]> {
  const { logits } = model.forward({ inputIds: tensor([[...ids]], { dtype: "i32" }) });
  return Array.from(await logits.select(1, ids.length - 1).data());
}

function logSoftmax(row: readonly number[]): number[] {
  const top = Math.max(...row);
  const total = row.reduce((sum, x) => sum + Math.exp(x - top), 0);
  return row.map((x) => x - top - Math.log(total));
}

const argmax = (row: readonly number[]): number => row.indexOf(Math.max(...row));

/** Greedy decoding without a cache: `change` does to logits what an option says. */
async function greedy(
  prompt: readonly number[],
  count: number,
  change: (logits: number[], made: readonly number[], all: readonly number[]) => void,
): Promise<number[]> {
  const made: number[] = [];
  while (made.length < count) {
    const all = [...prompt, ...made];
    const logits = await logitsAfter(all);
    change(logits, made, all);
    made.push(argmax(logits));
  }
  return made;
}

const ngrams = (ids: readonly number[], n: number): string[] =>
  ids.slice(0, ids.length - n + 1).map((_, i) => ids.slice(i, i + n).join());

describe.each(["webgpu", "reference"] as const)("on %s", (backend) => {
  beforeAll(() => setUp(backend));

  const cases: Record<string, [GenerateOptions, Parameters<typeof greedy>[2]]> = {
    presencePenalty: [{ presencePenalty: 0.4 }, (x, made) => new Set(made).forEach((id) => (x[id] -= 0.4))],
    frequencyPenalty: [{ frequencyPenalty: 0.15 }, (x, made) => made.forEach((id) => (x[id] -= 0.15))],
    repetitionPenalty: [
      { repetitionPenalty: 1.7 },
      (x, _made, all) => new Set(all).forEach((id) => (x[id] = x[id] > 0 ? x[id] / 1.7 : x[id] * 1.7)),
    ],
    logitBias: [{ logitBias: { 4: 0.3, 7: -100 } }, (x) => ((x[4] += 0.3), (x[7] -= 100))],
    noRepeatNgramSize: [
      { noRepeatNgramSize: 2 },
      (x, _made, all) => {
        const seen = new Set(ngrams(all, 2));
        x.forEach((_, id) => seen.has(`${all[all.length - 1]},${id}`) && (x[id] = -Infinity));
      },
    ],
  };
  test.each(Object.entries(cases))("%s does to every row of a batch what it says", async (_name, [options, change]) => {
    const rows = await run(options);
    for (const [s, prompt] of prompts.entries()) expect(rows[s]).toEqual(await greedy(prompt, 12, change));
    expect(rows).not.toEqual(await run());
  });

  test("each row of a batch is its single run, sampled ones with a seed each", async () => {
    const options = { temperature: 1.2, topK: 9, repetitionPenalty: 1.3, noRepeatNgramSize: 3, frequencyPenalty: 0.1 };
    const rows = await run({ ...options, seed: [3, 1, 4] });
    for (const [s, seed] of [3, 1, 4].entries())
      expect([rows[s]]).toEqual(await run({ ...options, seed }, [prompts[s]]));
  });

  test("log-probabilities equal those of full passes, with the likeliest tokens", async () => {
    const options = { maxNewTokens: 4, eosTokenId: [], temperature: 1.5, seed: 2, presencePenalty: 1, logprobs: 3 };
    const made: NewToken[][] = prompts.map(() => []);
    for await (const tokens of generateTokens(model, textPrompt(model, prompts), options))
      tokens.forEach((token, s) => made[s].push(token!));
    for (const [s, prompt] of prompts.entries()) {
      const ids = [...prompt];
      for (const { id, logprob, top } of made[s]) {
        const want = logSoftmax(await logitsAfter(ids));
        expect(logprob).toBeCloseTo(want[id], 4);
        expect(top!.map(({ logprob }) => logprob)).toEqual(
          [...top!.map(({ id }) => want[id])].map((x) => expect.closeTo(x, 4)),
        );
        expect(top![0].id).toBe(argmax(want));
        expect(top!.length).toBe(3);
        ids.push(id);
      }
    }
    const plain = await run({ ...options, logprobs: undefined });
    expect(made.map((row) => row.map(({ id }) => id))).toEqual(plain);
  });

  test("prompt lookup gives the tokens of single steps, greedy and sampled, in fewer passes", async () => {
    for (const options of [{}, { temperature: 0.7, seed: 5 }, { promptLookupNumTokens: 7, maxMatchingNgramSize: 3 }]) {
      for (const prompt of prompts) {
        let passes = 0;
        const { forward } = model.model;
        model.model.forward = (input) => (passes++, forward.call(model.model, input));
        const rows = await run({ maxNewTokens: 30, promptLookupNumTokens: 4, ...options }, [prompt]);
        model.model.forward = forward;
        expect(rows).toEqual(await run({ maxNewTokens: 30, ...options, promptLookupNumTokens: 0 }, [prompt]));
        if (!("temperature" in options)) expect(passes).toBeLessThan(25);
      }
    }
  });

  test("beams are those of a search over full passes", async () => {
    for (const options of [
      { numBeams: 3, earlyStopping: true, lengthPenalty: 0.5 },
      { numBeams: 4, lengthPenalty: 2 },
      { numBeams: 2, lengthPenalty: -1, noRepeatNgramSize: 2 },
    ] as const) {
      const all = { maxNewTokens: 6, eosTokenId: [2, 3], ...options };
      const found = await beamSearch(model, textPrompt(model, prompts), all);
      for (const [s, prompt] of prompts.entries()) {
        const want = await plainBeams(prompt, all);
        expect(found[s].map(({ ids }) => ids)).toEqual(want.map(({ ids }) => ids));
        found[s].forEach(({ score }, i) => expect(score).toBeCloseTo(want[i].score, 4));
      }
      expect(await generate(model, textPrompt(model, prompts), all)).toEqual(found.map(([best]) => best.ids));
    }
  });
});

/** Beam search written out: every beam is a list of ids, every pass a full one. */
async function plainBeams(
  prompt: readonly number[],
  { numBeams: K, maxNewTokens, eosTokenId, lengthPenalty, earlyStopping = false, noRepeatNgramSize: n = 0 }: any,
): Promise<{ ids: number[]; score: number }[]> {
  let live: { ids: number[]; sum: number }[] = [{ ids: [], sum: 0 }];
  let ended: { ids: number[]; score: number }[] = [];
  const end = (ids: number[], sum: number, length: number) => {
    ended = [...ended, { ids, score: sum / length ** lengthPenalty }].sort((a, b) => b.score - a.score).slice(0, K);
  };
  for (let length = 1; length <= maxNewTokens; length++) {
    const next: typeof live = [];
    for (const { ids, sum } of live) {
      const all = [...prompt, ...ids];
      const seen = new Set(n ? ngrams(all, n) : []);
      logSoftmax(await logitsAfter(all)).forEach((x, id) => {
        if (!seen.has([...all.slice(all.length - n + 1), id].join())) next.push({ ids: [...ids, id], sum: sum + x });
      });
    }
    next.sort((a, b) => b.sum - a.sum);
    live = [];
    for (const [rank, beam] of next.entries()) {
      if (live.length === K) break;
      if (!eosTokenId.includes(beam.ids[length - 1])) live.push(beam);
      else if (rank < K) end(beam.ids.slice(0, -1), beam.sum, length);
    }
    const bound = next[0].sum / length ** lengthPenalty;
    if (ended.length === K && (earlyStopping === true || ended[K - 1].score >= bound)) return ended;
  }
  for (const { ids, sum } of live) end(ids, sum, ids.length);
  return ended;
}

describe("on a vocabulary of 6", () => {
  beforeAll(() => setUp("reference", 6));

  test("enough beams find the best of all sequences", async () => {
    const [eos, length] = [2, 4];
    for (const lengthPenalty of [0, 0.7, 1, 3]) {
      const all: { ids: number[]; score: number }[] = [];
      const walk = async (ids: number[], sum: number): Promise<void> => {
        const logs = logSoftmax(await logitsAfter([4, 1, ...ids]));
        for (const [id, x] of logs.entries()) {
          const score = (sum + x) / (ids.length + 1) ** lengthPenalty;
          if (id === eos) all.push({ ids, score });
          else if (ids.length + 1 === length) all.push({ ids: [...ids, id], score });
          else await walk([...ids, id], sum + x);
        }
      };
      await walk([], 0);
      all.sort((a, b) => b.score - a.score);
      expect(all.length).toBe(1 + 5 + 25 + 125 + 625);
      const options = { numBeams: 781, lengthPenalty, maxNewTokens: length, eosTokenId: eos };
      const [found] = await beamSearch(model, textPrompt(model, [[4, 1]]), { ...options, earlyStopping: "never" });
      found.slice(0, 40).forEach(({ score }, i) => expect(score).toBeCloseTo(all[i].score, 5));
      expect(found[0].ids).toEqual(all[0].ids);
    }
  });
});

describe("choices", () => {
  beforeAll(() => setUp("reference"));
  const choices = [[4, 5, 6], [4, 5], [9], [9, 1, 1, 1], [20, 21]];

  test("leave nothing else, with and without sampling, alone and in a batch", async () => {
    const names = new Set<string>();
    for (let seed = 0; seed < 30; seed++)
      for (const row of await run({ choices, temperature: 3, seed, eosTokenId: 2 })) names.add(row.join());
    expect([...names].sort()).toEqual(choices.map((ids) => ids.join()).sort());
    for (const row of await run({ choices, eosTokenId: 2 })) expect(choices).toContainEqual(row);
    for (const row of await run({ choices, eosTokenId: 2, numBeams: 3 })) expect(choices).toContainEqual(row);
  });

  test("beams find the likeliest choice", async () => {
    const own = [
      [4, 5, 6],
      [9, 1, 1],
      [20, 21, 3],
      [11, 12, 13],
    ];
    const sums = await Promise.all(
      own.map(async (ids) => {
        let sum = 0;
        for (let i = 0; i < ids.length; i++) sum += logSoftmax(await logitsAfter([14, ...ids.slice(0, i)]))[ids[i]];
        return sum;
      }),
    );
    expect(await run({ choices: own, numBeams: 4, eosTokenId: 2 }, [[14]])).toEqual([own[argmax(sums)]]);
  });

  test("need an end token when one begins with another, and fit the limits", async () => {
    await expect(run({ choices })).rejects.toThrow("one choice is a prefix of another");
    await expect(run({ choices: [] })).rejects.toThrow("choices is empty");
    await expect(run({ choices: [[30]] })).rejects.toThrow("choice [30] has token 30, outside the vocabulary of 23");
    await expect(run({ choices: [[1, 2, 3]], maxNewTokens: 2 })).rejects.toThrow("choice [1,2,3] has 3 tokens");
    await expect(run({ choices: ["a"] })).rejects.toThrow("need the tokenizer");
  });

  test("of text stream as text", async () => {
    const tokenizer = new Tokenizer(
      trainBPE([["red apple, green pear", 5]], { vocabSize: 290, specialTokens: ["<eos>"] }),
    );
    const speaker = new LlamaForCausalLM({ ...config, vocab_size: tokenizer.size, eos_token_id: 0 });
    const texts = ["a red apple", "a pear", "梨"];
    for (let seed = 0; seed < 6; seed++) {
      let text = "";
      const options = { choices: texts, temperature: 2, seed };
      for await (const piece of generateText(speaker, tokenizer, textPrompt(speaker, [[7]]), options)) text += piece;
      expect(texts).toContain(text);
    }
  });
});

describe("ends", () => {
  beforeAll(() => setUp("reference"));

  test("minNewTokens holds the end token back", async () => {
    const [free] = await run({}, [[5, 6]]);
    const eos = free[1];
    expect((await run({ eosTokenId: eos }, [[5, 6]]))[0].length).toBeLessThan(2);
    const [row] = await run({ eosTokenId: eos, minNewTokens: 5 }, [[5, 6]]);
    expect(row.length).toBeGreaterThanOrEqual(5);
    expect(row).not.toContain(eos);
  });

  test("a stop string ends its row of a batch", async () => {
    const tokenizer = new Tokenizer(trainBPE([["ab", 1]], { vocabSize: 260, specialTokens: ["<eos>"] }));
    const speaker = new LlamaForCausalLM({ ...config, vocab_size: tokenizer.size, eos_token_id: 0 });
    const options = { maxNewTokens: 16, eosTokenId: [], temperature: 1, seed: 3 };
    const free = await generate(speaker, textPrompt(speaker, prompts), options);
    const stop = tokenizer.decode(free[1].slice(4, 6));
    const rows = await generate(speaker, textPrompt(speaker, prompts), { ...options, stopStrings: [stop], tokenizer });
    expect(rows[1]).toEqual(free[1].slice(0, 6));
    expect(rows[0]).toEqual(free[0]);
  });

  test("a stop string ends its beam, and the text before it", async () => {
    const tokenizer = new Tokenizer(trainBPE([["ab", 1]], { vocabSize: 260, specialTokens: ["<eos>"] }));
    const speaker = new LlamaForCausalLM({ ...config, vocab_size: tokenizer.size, eos_token_id: 0 });
    const logitBias = Object.fromEntries(Array.from({ length: tokenizer.size }, (_, id) => [id, -50]));
    for (const id of tokenizer.encode("xyz")) logitBias[id] = 0;
    const options = { maxNewTokens: 7, eosTokenId: [], numBeams: 3, logitBias, tokenizer, earlyStopping: true };
    const [free] = await beamSearch(speaker, textPrompt(speaker, [[5]]), options);
    expect(free[0].ids.length).toBe(7);
    const [beams] = await beamSearch(speaker, textPrompt(speaker, [[5]]), {
      ...options,
      stopStrings: ["xy", "yx", "zz"],
    });
    const texts = beams.map(({ ids }) => tokenizer.decode(ids));
    for (const text of texts.filter(({ length }) => length < 7))
      expect(text).toMatch(/^(?!.*(xy|yx|zz).).*(xy|yx|zz)$/);
    expect(texts.some(({ length }) => length < 7)).toBe(true);
    let said = "";
    const stopStrings = ["xy", "yx", "zz"];
    for await (const piece of generateText(speaker, tokenizer, textPrompt(speaker, [[5]]), { ...options, stopStrings }))
      said += piece;
    expect(said).toBe(texts[0].replace(/(xy|yx|zz)$/, ""));
  });
});

test("every option together keeps to the plans of the first steps", async () => {
  await setUp("webgpu");
  const options: GenerateOptions = {
    maxNewTokens: 40,
    eosTokenId: [2],
    minNewTokens: 30,
    temperature: 1,
    topP: 0.9,
    seed: 1,
    noRepeatNgramSize: 2,
    repetitionPenalty: 1.1,
    presencePenalty: 0.1,
    frequencyPenalty: 0.1,
    logitBias: { 3: -1 },
    logprobs: 2,
  };
  let settled = 0;
  let count = 0;
  for (const step of steps(model, textPrompt(model, prompts), options)) {
    await step.ids;
    if (++count === 4) settled = memoryStats().plans;
  }
  expect(count).toBe(40);
  expect(memoryStats().plans).toBe(settled);
  const before = memoryStats().plans;
  await run({ numBeams: 3, maxNewTokens: 5 });
  const short = memoryStats().plans;
  await run({ numBeams: 3, maxNewTokens: 8 });
  expect(short).toBeGreaterThan(before);
  expect(memoryStats().plans).toBe(short); // the same capacity, three steps more
});

describe("bad input is named", () => {
  beforeAll(() => setUp("reference"));
  test.each([
    [{ numBeams: 2, temperature: 1 }, "numBeams cannot be combined with temperature"],
    [
      { promptLookupNumTokens: 3, repetitionPenalty: 2 },
      "promptLookupNumTokens cannot be combined with repetitionPenalty",
    ],
    [{ promptLookupNumTokens: 3 }, "promptLookupNumTokens takes one prompt, got 3"],
    [{ presencePenalty: NaN }, "presencePenalty must be finite, got NaN"],
    [{ noRepeatNgramSize: 1.5 }, "noRepeatNgramSize must be a whole number"],
    [{ logitBias: { 23: 1 } }, "logitBias has token 23, outside the vocabulary of 23"],
    [{ seed: [1, 2] }, "2 seeds for 3 samples"],
    [{ stopStrings: ["a"] }, "stopStrings need the tokenizer"],
    [{ minNewTokens: 13 }, "minNewTokens 13 exceeds maxNewTokens 12"],
    [{ logprobs: 24 }, "logprobs 24 exceeds the vocabulary of 23"],
  ] as [GenerateOptions, string][])("%o", async (options, message) => {
    await expect(run(options)).rejects.toThrow(message);
  });

  test("a step that needs the ids of the one before", () => {
    const begun = steps(model, textPrompt(model, prompts), { noRepeatNgramSize: 2 });
    begun.next();
    expect(() => begun.next()).toThrow("need each step's ids awaited before the next step");
  });
});
