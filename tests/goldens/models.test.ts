import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { loadWeights } from "../../models/checkpoints/load.ts";
import { loadAdapter, saveAdapter } from "../../models/checkpoints/peft.ts";
import { ViTForImageClassification } from "../../models/classifier.ts";
import { loadLlama } from "../../models/language.ts";
import type { LlamaForCausalLM } from "../../models/llama.ts";
import { Llava } from "../../models/llava.ts";
import { MplugOwl } from "../../models/owl.ts";
import { Blip2ImageEncoder } from "../../models/qformer.ts";
import { Resampler, resamplerNames } from "../../models/resampler.ts";
import { loadVisionTower } from "../../models/tower.ts";
import { ViT } from "../../models/vit.ts";
import type { VisionLanguageInput } from "../../models/vlm.ts";
import type { CacheType } from "../../src/generate/cache.ts";
import { steps, textPrompt } from "../../src/generate/generate.ts";
import type { Prompt } from "../../src/generate/options.ts";
import { memoryFiles } from "../../src/io/source.ts";
import type { TensorFiles } from "../../src/io/tensors.ts";
import { type Module, mergeLoRA } from "../../src/nn/index.ts";
import { tensor } from "../../src/ops/functional.ts";
import { folder } from "../../src/runtime/node.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { openBackend } from "../support/backend.ts";
import {
  type Case,
  gradientMismatch,
  idOf,
  listCases,
  mismatch,
  openCase,
  skipIfNone,
  type Tolerance,
} from "./cases.ts";
import { type ModelType, modelType } from "./model-types.ts";
import { notYet } from "./not-yet.ts";

/** Inputs and expected values of one scenario. */
class Scenario {
  constructor(
    readonly golden: Case,
    readonly name: string,
    private readonly inputs: TensorFiles,
    private readonly outputs: TensorFiles,
  ) {}

  async input(name: string): Promise<Tensor | undefined> {
    if (!this.inputs.has(`${this.name}/${name}`)) return undefined;
    const { data, shape, dtype } = await this.inputs.read(`${this.name}/${name}`);
    return tensor(data, { shape, dtype });
  }
  async given(name: string): Promise<Tensor> {
    const found = await this.input(name);
    if (!found) throw new Error(`${this.golden.name}/${this.name} has no input ${name}`);
    return found;
  }
  has(name: string): boolean {
    return this.outputs.has(`${this.name}/${name}`);
  }
  /** Compares with the stored output; `rows` says which rows of the last dim count. */
  async expect(name: string, got: Tensor, kind = "logits", rows?: ArrayLike<number>): Promise<void> {
    const want = await this.outputs.read(`${this.name}/${name}`);
    expect(got.shape, name).toEqual(want.shape);
    const width = want.shape[want.shape.length - 1] ?? 1;
    const message = mismatch(
      await got.data(),
      want.data,
      this.golden.json.tol[kind],
      rows && ((i) => rows[Math.floor(i / width)] !== 0),
    );
    expect(message, `${this.golden.name}/${this.name}: ${name}`).toBeUndefined();
  }
  async hiddenStates(states: readonly Tensor[], rows?: ArrayLike<number>, name = "hidden_states"): Promise<void> {
    for (const [i, state] of states.entries())
      if (this.has(`${name}.${i}`)) await this.expect(`${name}.${i}`, state, "hidden", rows);
  }
  /** Compares the gradients of `model`, names given by `nameOf`, with all stored for this scenario. */
  async gradients(model: Module, nameOf = (name: string) => name, others: Record<string, Tensor> = {}): Promise<void> {
    const file = await openCase(this.golden.path, "grads");
    const prefix = `${this.name}/grad.`;
    const wanted = file.names.filter((name) => name.startsWith(prefix));
    const found: Record<string, Tensor> = { ...others };
    for (const [name, p] of model.namedParameters()) found[nameOf(name)] = p;
    for (const { grad } of Object.values(found)) grad?.keep();
    expect(wanted.length).toBeGreaterThan(0);
    for (const name of wanted) {
      const grad = found[name.slice(prefix.length)]?.grad;
      expect(grad, `${this.golden.name}: no gradient of ${name}`).toBeTruthy();
      expect(
        gradientMismatch(await grad!.data(), (await file.read(name)).data, this.golden.json.tol.grad),
        name,
      ).toBeUndefined();
    }
    model.parameters().forEach((p) => (p.grad = null));
  }
  /** Greedy tokens and the logits of each step, also from a cache of halves. */
  async greedy(model: LlamaForCausalLM, prompt: Prompt): Promise<void> {
    const { logits } = this.golden.json.tol;
    await this.greedyFrom(model, prompt, "f32", logits);
    // Halves are off by up to 2^-11, which moves a score of 20 by 0.01, and its weight by 1 %.
    await this.greedyFrom(model, prompt, "f16", { atol: 1e-2, rtol: 2e-3 });
  }
  private async greedyFrom(
    model: LlamaForCausalLM,
    prompt: Prompt,
    cacheType: CacheType,
    tolerance: Tolerance,
  ): Promise<void> {
    const want = await this.outputs.read(`${this.name}/tokens`);
    const logits = await this.outputs.read(`${this.name}/logits`);
    const [b, count, v] = logits.shape;
    let i = 0;
    for (const step of steps(model, prompt, { maxNewTokens: count, cacheType }, true)) {
      const ids = await step.ids;
      const got = await step.logits.data();
      for (let s = 0; s < b; s++) {
        expect(ids[s], `token ${i} of sample ${s}`).toBe(want.data[s * count + i]);
        const at = (s * count + i) * v;
        expect(
          mismatch(got.slice(s * v, (s + 1) * v), logits.data.slice(at, at + v), tolerance),
          `logits of step ${i}`,
        ).toBeUndefined();
      }
      i++;
    }
    expect(i).toBe(count);
  }
}

type Runner = (golden: Case) => Promise<(scenario: Scenario) => Promise<void>>;

const llama: Runner = async ({ path }) => {
  const model = await loadLlama(folder(`${path}/model`));
  return async (s) => {
    const inputIds = await s.given("input_ids");
    if (s.has("tokens")) {
      const [b, t] = inputIds.shape;
      const ids = Array.from((await inputIds.data()) as Int32Array);
      return s.greedy(
        model,
        textPrompt(
          model,
          Array.from({ length: b }, (_, i) => ids.slice(i * t, (i + 1) * t)),
        ),
      );
    }
    const mask = await s.input("attention_mask");
    const rows = await mask?.data();
    const segments = mask && tensor((await mask.data()).map((m) => m - 1) as Int32Array, { shape: mask.shape });
    const decoder = { inputIds, segments, positions: await s.input("position_ids") };
    const { logits, hiddenStates } = model.forward(decoder);
    hiddenStates.forEach((state) => state.keep());
    await s.expect("logits", logits, "logits", rows);
    await s.hiddenStates(hiddenStates, rows);
    const labels = await s.input("labels");
    if (!labels) return;
    const loss = model.loss(decoder, labels);
    if (s.name === "basic") loss.backward();
    await s.expect("loss", loss, "loss");
    if (s.name === "basic") await s.gradients(model);
  };
};

const vision: Runner = async ({ path }) => {
  const model = await loadVisionTower(folder(`${path}/model`));
  if (model instanceof ViT) throw new Error("no golden case has this tower");
  return async (s) => {
    const pixels = (await s.given("pixel_values")).requiresGrad_();
    const { hiddenStates, lastHiddenState, pooled } = model.forward(pixels);
    [...hiddenStates, lastHiddenState, pooled!].forEach((state) => state.keep());
    await s.expect("last_hidden_state", lastHiddenState, "hidden");
    await s.expect("pooler_output", pooled!, "hidden");
    await s.hiddenStates(hiddenStates);
    const gout = await s.input("gout");
    if (!gout) return;
    const again = model.forward(pixels); // the gradient goes to what has the shape of gout
    const output = gout.ndim === 2 ? again.pooled! : again.hiddenStates.at(-2)!;
    output.mul(gout).sum().backward();
    await s.gradients(model, undefined, { pixel_values: pixels });
  };
};

const classifier: Runner = async ({ path }) => {
  const model = await ViTForImageClassification.fromPretrained(folder(`${path}/model`));
  return async (s) => {
    const pixels = await s.given("pixel_values");
    const interpolatePositions = s.name === "interpolated";
    await s.expect("logits", model.forward(pixels, { interpolatePositions }).logits);
    if (!s.has("loss")) return;
    const loss = model.loss(pixels, await s.given("labels"));
    loss.backward();
    await s.expect("loss", loss, "loss");
    await s.gradients(model);
  };
};

/** Names of our parameters in the two layouts. */
const originalNames = (name: string) =>
  name
    .replace(/^multi_modal_projector\.linear_(\d+)\./, (_, n) => `model.mm_projector.${2 * (n - 1)}.`)
    .replace(/^language_model\./, "");

const llava: Runner = async ({ path, json }) => {
  const source = folder(`${path}/model`);
  const model = await Llava.fromPretrained(source);
  const original = json.image_token_index === -200;
  const linear = model.config.mm_projector_type === "linear";
  const nameOf = (name: string) =>
    original ? originalNames(name).replace("mm_projector.0.", linear ? "mm_projector." : "mm_projector.0.") : name;
  return async (s) => {
    if (s.name === "select_full") {
      const full = await Llava.fromPretrained(source);
      Object.assign(full.config, { vision_feature_layer: -1, vision_feature_select_strategy: "full" });
      return runLlava(full, s, nameOf);
    }
    return runLlava(model, s, nameOf);
  };
};

async function runLlava(model: Llava, s: Scenario, nameOf: (name: string) => string): Promise<void> {
  const pixelValues = (await s.input("pixel_values")) ?? (await s.given("images"));
  const attentionMask = await s.input("attention_mask");
  const forms: VisionLanguageInput[] = [];
  for (const suffix of ["", "_expanded"]) {
    const inputIds = await s.input(`input_ids${suffix}`);
    if (!inputIds) continue;
    const fits = attentionMask && attentionMask.shape[1] === inputIds.shape[1];
    if (attentionMask && !fits) continue; // the mask is given for the other form
    forms.push({
      inputIds,
      pixelValues,
      attentionMask: fits ? attentionMask : undefined,
      labels: await s.input(`labels${suffix}`),
    });
  }
  expect(forms.length).toBeGreaterThan(0);
  for (const input of forms) {
    if (s.has("tokens")) {
      await s.greedy(model.language_model, model.prompt(input));
      continue;
    }
    const out = model.forward(input);
    const { labels } = out;
    const features = model.imageFeatures(pixelValues);
    const vision = model.visionFeatures(pixelValues);
    [...out.hiddenStates, features, vision, out.decoder.inputsEmbeds].forEach((t) => t.keep());
    const rows = await out.attentionMask.data();
    await s.expect("logits", out.logits, "logits", rows);
    await s.hiddenStates(out.hiddenStates, rows);
    if (s.has("vision_features")) await s.expect("vision_features", vision, "hidden");
    if (s.has("image_features")) await s.expect("image_features", features, "hidden");
    if (s.has("inputs_embeds")) await s.expect("inputs_embeds", out.decoder.inputsEmbeds, "hidden");
    if (s.has("last_hidden_state")) await s.expect("last_hidden_state", out.hiddenStates.at(-1)!, "hidden");
    if (s.has("merged_attention_mask")) await s.expect("merged_attention_mask", out.attentionMask);
    if (s.has("merged_labels")) await s.expect("merged_labels", labels!);
    if (!s.has("loss") || !labels) continue;
    const loss = model.loss({ ...input, labels: input.labels! });
    if (s.name === "single") loss.backward();
    await s.expect("loss", loss, "loss");
    if (s.name === "single") await s.gradients(model, nameOf);
  }
}

const owl: Runner = async ({ path }) => {
  const model = await MplugOwl.fromPretrained(folder(`${path}/model`));
  return (s) => runOwl(model, s, s.name === "single" || s.name === "batch_right_pad");
};

const owlLora: Runner = async ({ root, path, json }) => {
  const model = await MplugOwl.fromPretrained(folder(join(root.path, json.base, "model")));
  await loadAdapter(model, folder(`${path}/adapter`));
  model.eval();
  return async (s) => {
    await runOwl(model, s, true);
    mergeLoRA(model);
    await runOwl(model, s, false);
    const files = memoryFiles();
    await saveAdapter(model, files);
    const again = await MplugOwl.fromPretrained(folder(join(root.path, json.base, "model")));
    await loadAdapter(again, files);
    again.eval();
    await runOwl(again, s, false);
  };
};

async function runOwl(model: MplugOwl, s: Scenario, graded: boolean): Promise<void> {
  const pixelValues = await s.input("pixel_values");
  const input = {
    inputIds: await s.given("input_ids"),
    attentionMask: await s.input("attention_mask"),
    labels: await s.input("labels"),
    pixelValues,
  };
  if (s.has("tokens")) return s.greedy(model.language_model, model.prompt(input));
  const out = model.forward(input);
  out.hiddenStates.forEach((state) => state.keep());
  await s.expect("logits", out.logits, "logits", await out.attentionMask.data());
  if (pixelValues && s.has("abstractor_output")) {
    const { hiddenStates, lastHiddenState } = model.vision_model.forward(pixelValues);
    const features = model.imageFeatures(pixelValues);
    [...hiddenStates, features, lastHiddenState].forEach((t) => t.keep());
    await s.expect("abstractor_output", features, "hidden");
    await s.expect("vision_last_hidden_state", lastHiddenState, "hidden");
    await s.hiddenStates(hiddenStates, undefined, "vision_hidden_states");
  }
  const loss = model.loss({ ...input, labels: input.labels! });
  if (graded) loss.backward();
  await s.expect("loss", loss, "loss");
  if (graded)
    await s.gradients(model, (name) =>
      name.replace(/^(.*)\.lora\.default\.(lora_[AB])$/, "base_model.model.$1.$2.weight"),
    );
}

const blip2: Runner = async ({ path }) => {
  const model = await Blip2ImageEncoder.fromPretrained(folder(`${path}/model`));
  return async (s) => {
    const { embeddings, features, hiddenStates } = model.forward(await s.given("pixel_values"));
    [embeddings, features, ...hiddenStates].forEach((t) => t.keep());
    await s.expect("vision_last_hidden_state", features, "hidden");
    await s.hiddenStates(hiddenStates, undefined, "qformer_hidden_states");
    await s.expect("qformer_last_hidden_state", hiddenStates.at(-1)!, "hidden");
    await s.expect("projected", embeddings);
    const again = model.forward(await s.given("pixel_values")).embeddings;
    again
      .mul(await s.given("gout"))
      .sum()
      .backward();
    await s.gradients(model);
  };
};

const resampler: Runner = async ({ path, json }) => {
  const files = await openCase(`${path}/model`, "model");
  const model = new Resampler(json.config);
  const computed = await model.pos_embed.table.data();
  const stored = (await files.read("pos_embed")).data;
  expect(mismatch(computed, stored, json.tol.hidden), "positions of a new resampler").toBeUndefined();
  await loadWeights(model, [files], resamplerNames);
  return async (s) => {
    const x = (await s.given("x")).requiresGrad_();
    await s.expect("pos_embed_keys", model.pos_embed.forward(x.shape[1]), "hidden");
    const out = model.forward(x);
    out
      .mul(await s.given("gout"))
      .sum()
      .backward();
    await s.expect("out", out);
    expect(model.pos_embed.table.grad).toBeNull();
    await s.gradients(model, undefined, { x });
  };
};

/** Which runner does a case, by the model_type of its config. */
const runners: Record<ModelType, Runner> = {
  llama,
  qwen2: llama,
  mistral: llama,
  clip_vision_model: vision,
  siglip_vision_model: vision,
  vit: classifier,
  llava,
  llava_llama: llava,
  "mplug-owl": owl,
  "mplug-owl with an adapter": owlLora,
  "blip-2": blip2,
  resampler,
};

/** A case without a runner is on the list of not-yet.ts, or roots.test.ts fails. */
const cases = listCases("models").filter((golden) => modelType(golden) && !(idOf(golden) in notYet));

skipIfNone("models", cases);

beforeAll(openBackend);

describe.each(cases)("models/$name", (golden) => {
  let run: (scenario: Scenario) => Promise<void>;
  beforeAll(async () => {
    run = await runners[modelType(golden)!](golden);
  });
  test.each(Object.keys(golden.json.scenarios))("%s", async (name) => {
    await run(
      new Scenario(golden, name, await openCase(golden.path, "inputs"), await openCase(golden.path, "outputs")),
    );
  });
});
