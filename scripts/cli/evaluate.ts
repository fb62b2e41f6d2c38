import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { Assistant } from "../../models/chat/index.ts";
import {
  type Answer,
  type Answerer,
  answererOf,
  type BenchContext,
  type BenchQuestion,
  type EvaluationOptions,
  evaluateBench,
  evaluateCaptions,
  evaluateOwl,
  evaluateScienceQA,
  type Judge,
  type OwlAnswer,
  type OwlGraded,
  type Rules,
  type ScienceFormat,
} from "../../models/evaluate/index.ts";
import { readRecords } from "../../src/data/index.ts";
import { init } from "../../src/index.ts";
import { namedPath, openFolder } from "../../src/io/index.ts";
import { numberOf, oneOf, weightTypes } from "./options.ts";
import { Bar, bold, dim, duration, loading, table } from "./terminal.ts";

export const summary = "scores a model on ScienceQA, captions, OwlEval or LLaVA-Bench";

const HELP = `usage: shadegrad evaluate TASK MODEL --data PATH [options]
       shadegrad evaluate TASK --answers answers.jsonl --data PATH [options]

TASK is one of
  scienceqa    --data FOLDER with problems.json and pid_splits.json; accuracy by the paper's classes
  captions     --data FILE with { image, captions } in a list or on lines, or COCO's annotations; exact match, BLEU-4, CIDEr
  owleval      --data FOLDER with questions.jsonl; answers for people to grade, and page.html to do it on
  llava-bench  --data FOLDER with questions.jsonl, context.jsonl and answers_gpt4.jsonl; scores relative to the reference

MODEL is a checkpoint or what shadegrad train wrote. answers.jsonl and results.json go to the output folder; an evaluation
that was interrupted goes on with --resume. With --answers the answers of a file are scored, and no model runs.

  --images FOLDER        where image files are; default: DATA/images/SPLIT, the file's folder, DATA/cases, DATA/images
  --output FOLDER        default: evaluation/TASK
  --resume, --limit N    take over answers that are there; ask the first N questions only
  --base FOLDER, --adapter FOLDER, --vision-tower FOLDER, --template NAME, --dtype TYPE    as in shadegrad chat
  --temperature X, --max-new-tokens N, --seed N                            default: greedy, 1,024 tokens
scienceqa
  --split NAME           default: test
  --format NAME          QCM-LEA (default: reasoning first), QCM-ALE (answer first), QCM-A, …
  --text-only            captions instead of images
  --direct               ask for the letter alone, as LLaVA-1.5 is asked
  --answer-prompter WHEN always (LLaVA's second pass for the letter) or missing (where there is none)
captions
  --prompt TEXT          what is asked about each picture
owleval
  --compare FILE         answers of another model to compare with; may be given several times
  --grades FILE          grades.jsonl that the page saved: counts them
llava-bench
  --judge FILE           a JavaScript module: its default export takes a prompt and returns the judge's review
  --rules FILE           rule.json of haotian-liu/LLaVA
  --both-orders          judge each pair in both orders`;

const text = { type: "string" } as const;
const flag = { type: "boolean", default: false } as const;
const several = { type: "string", multiple: true, default: [] as string[] } as const;
const config = {
  allowPositionals: true,
  options: {
    ...{ data: text, images: text, output: text, answers: text, limit: text, resume: flag },
    ...{ base: text, adapter: text, "vision-tower": text, template: text, dtype: text },
    ...{ temperature: text, "max-new-tokens": text, seed: text },
    ...{ split: text, format: text, "text-only": flag, direct: flag, "answer-prompter": text },
    ...{ prompt: text, compare: several, grades: text },
    ...{ judge: text, rules: text, "both-orders": flag },
    help: { type: "boolean", short: "h", default: false },
  },
} as const;
type Given = ReturnType<typeof parseArgs<typeof config>>["values"];

/** A task: its image folder, its run, and the table of its result. */
interface Task {
  images(given: Given): string;
  run(given: Given, options: EvaluationOptions): Promise<string>;
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;

const tasks: Readonly<Record<string, Task>> = {
  scienceqa: {
    images: ({ data, split = "test" }) => join(data!, "images", split),
    async run({ data, split, format, direct, ...given }, options) {
      const { scores, missing, unparsed } = await evaluateScienceQA(await openFolder(data!), {
        ...options,
        split,
        format: format as ScienceFormat | undefined,
        textOnly: given["text-only"],
        direct,
        answerPrompter: oneOf("answer-prompter", given["answer-prompter"], ["always", "missing"]),
      });
      const rows = Object.entries(scores).map(([name, { right, count, accuracy }]) => [
        name,
        `${right}`,
        `${count}`,
        count ? `${accuracy.toFixed(2)} %` : "",
      ]);
      const notes = [
        `${unparsed.length} answers without a letter of the choices, ${missing.length} problems without an answer`,
      ];
      return [table(["questions", "right", "of", "accuracy"], rows), ...notes].join("\n");
    },
  },
  captions: {
    images: ({ data }) => dirname(data!),
    async run({ data, prompt }, options) {
      const folder = await openFolder(dirname(data!));
      const { exactMatch, bleu4, cider, count } = await evaluateCaptions(folder, basename(data!), {
        ...options,
        prompt,
      });
      const rows = [
        ["exact match", percent(exactMatch)],
        ["BLEU-4", (100 * bleu4).toFixed(2)],
        ["CIDEr", (100 * cider).toFixed(2)], // papers print 100 × CIDEr; CIDEr-D is 0 to 10
      ];
      return table([`${count} captions`, "score"], rows);
    },
  },
  owleval: {
    images: ({ data }) => join(data!, "cases"),
    async run({ data, compare, grades, images = join(data!, "cases") }, options) {
      const { output } = options;
      const done = await evaluateOwl(await openFolder(data!), {
        ...options,
        compare: (await Promise.all(compare!.map((path) => records<OwlAnswer>(path)))).flat(),
        grades: grades === undefined ? undefined : await records<OwlGraded>(grades),
        page: {
          image(name) {
            const place = resolve(images, namedPath(name, images, join(data!, "questions.jsonl")));
            return encodeURI(relative(resolve(output.location), place).replaceAll("\\", "/"));
          },
        },
      });
      const rows = Object.entries(done.grades ?? {}).map(([model, counts]) => [
        model,
        ...Object.values(counts).map(String),
      ]);
      const page = `${done.count} questions, answers of ${done.models.join(", ")}: open ${bold(join(output.location, "page.html"))} to grade them`;
      return rows.length ? `${table(["model", "A", "B", "C", "D"], rows)}\n${page}` : page;
    },
  },
  "llava-bench": {
    images: ({ data }) => join(data!, "images"),
    async run({ data, judge, rules, ...given }, options) {
      const lines = async <T>(name: string) => records<T>(join(data!, name));
      const { scores } = await evaluateBench({
        ...options,
        questions: await lines<BenchQuestion>("questions.jsonl"),
        contexts: await lines<BenchContext>("context.jsonl"),
        reference: await lines<Answer>("answers_gpt4.jsonl"),
        judge: await loadJudge(judge),
        rules: rules === undefined ? undefined : rulesOf(rules),
        bothOrders: given["both-orders"],
      });
      const rows = Object.entries(scores).map(([name, { relative, reference, model, count }]) => [
        name,
        `${count}`,
        reference.toFixed(2),
        model.toFixed(2),
        `${relative.toFixed(1)} %`,
      ]);
      return table(["questions", "of", "reference", "model", "relative"], rows);
    },
  },
};

export async function run(args: string[]): Promise<void> {
  const { values: given, positionals } = parseArgs({ args, ...config });
  if (given.help) return console.log(HELP);
  const [name, model, ...rest] = positionals;
  if (!Object.hasOwn(tasks, name ?? ""))
    throw new Error(`one task expected of ${Object.keys(tasks).join(", ")}, got ${name ?? "none"}; --help tells more`);
  if (rest.length || (model === undefined) === (given.answers === undefined))
    throw new Error("one model expected, or --answers with the file that has its answers");
  if (given.data === undefined) throw new Error(`${name} needs --data`);
  const task = tasks[name];
  const output = await openFolder(given.output ?? join("evaluation", name));
  const images = given.images ?? task.images(given);
  const done = given.answers === undefined ? [] : await records<Answer>(given.answers);
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort(new Error("interrupted; --resume goes on from the answers that are there")));
  const bar = new Bar(name);
  const began = performance.now();
  let before: { what: string; done: number } | undefined;
  const options: EvaluationOptions = {
    model_id: done[0]?.model_id ?? basename(resolve(model ?? given.answers!)),
    answer: model === undefined ? undefined : await answerer(model, given),
    images: await openFolder(images),
    output,
    done,
    resume: given.resume,
    limit: numberOf("limit", given.limit),
    signal: stop.signal,
    onProgress: ({ what, done, total }) => {
      if (before?.what !== what) before = { what, done }; // rates count this run alone
      const rate = (done - before.done) / ((performance.now() - began) / 1000);
      const facts = rate > 0 ? [rate >= 1 ? `${rate.toFixed(1)} ${what}/s` : `${(1 / rate).toFixed(1)} s each`] : [];
      if (rate > 0) facts.push(`${duration((total - done) / rate)} left`);
      bar.update(done, total, [what, ...facts].join("  "));
    },
  };
  try {
    const scores = await task.run(given, options);
    bar.end();
    console.log(`${scores}\n${dim(`${output.location}/results.json, with answers.jsonl`)}`);
  } catch (error) {
    bar.end();
    throw error;
  }
}

/** The model as an `Answerer`. */
async function answerer(model: string, given: Given): Promise<Answerer> {
  const { base, adapter, template, "vision-tower": visionTower } = given;
  const dtype = oneOf("dtype", given.dtype, weightTypes);
  const device = await init();
  console.error(dim(device ? device.description : "f64 interpreter on the CPU"));
  const assistant = await Assistant.open(model, { dtype, base, adapter, template, visionTower, onProgress: loading() });
  return answererOf(assistant, {
    temperature: numberOf("temperature", given.temperature),
    maxNewTokens: numberOf("max-new-tokens", given["max-new-tokens"]) ?? 1024, // as LLaVA's evaluation
    seed: numberOf("seed", given.seed),
  });
}

async function records<T>(path: string): Promise<T[]> {
  return (await readRecords(await openFolder(dirname(path)), basename(path))).map(({ value }) => value as T);
}

function rulesOf(path: string): Rules {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
}

async function loadJudge(path?: string): Promise<Judge> {
  if (path === undefined) throw new Error("llava-bench needs --judge, a module whose default export is the judge");
  if (!existsSync(path)) throw new Error(`${path}: no such file`);
  const { default: judge } = await import(pathToFileURL(resolve(path)).href);
  if (typeof judge !== "function") throw new Error(`${path}: its default export is no function`);
  return judge;
}
