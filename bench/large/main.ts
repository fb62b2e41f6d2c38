// `npm run bench:large -- [--shape llava-7b | tinyllama-1.1b | tiny] [--dtype int4] [--tokens 8] [--train]`
// Runs a model of real size with seeded weights on this adapter: load time, first token, tokens per second, bytes. With --train
// also two QLoRA steps.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { LlamaForCausalLM, Llava, loadLlama } from "../../models/index.ts";
import { steps, textPrompt } from "../../src/generate/index.ts";
import { init, manualSeed, memoryStats, noGrad, tensor } from "../../src/index.ts";
import { AdamW, addLoRA, type Module, withoutInit } from "../../src/nn/index.ts";
import { syntheticFolder } from "./synthetic.ts";

const llama = (hidden: number, inner: number, layers: number, heads: number, kv: number, vocab: number) => ({
  model_type: "llama",
  vocab_size: vocab,
  hidden_size: hidden,
  intermediate_size: inner,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: kv,
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  max_position_embeddings: 4096,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
});
const clip = (hidden: number, inner: number, layers: number, heads: number, size: number) => ({
  model_type: "clip_vision_model",
  hidden_size: hidden,
  intermediate_size: inner,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  image_size: size,
  patch_size: 14,
  hidden_act: "quick_gelu",
});
const llava = (text: object, vision: object, image: number) => ({
  model_type: "llava",
  image_token_index: image,
  vision_feature_layer: -2,
  vision_feature_select_strategy: "default",
  projector_hidden_act: "gelu",
  text_config: text,
  vision_config: vision,
});
/** Shapes of published models. `tiny` is for a quick check of this script. */
const shapes: Record<string, any> = {
  "llava-7b": llava(llama(4096, 11008, 32, 32, 32, 32064), clip(1024, 4096, 24, 16, 336), 32000),
  "tinyllama-1.1b": llama(2048, 5632, 22, 32, 4, 32000),
  tiny: llava(llama(256, 704, 2, 4, 2, 1000), clip(128, 256, 2, 2, 56), 999),
};

const { values: given } = parseArgs({
  options: {
    shape: { type: "string", default: "llava-7b" },
    dtype: { type: "string", default: "int4" },
    tokens: { type: "string", default: "8" },
    train: { type: "boolean" },
  },
});
const config = shapes[given.shape!];
if (!config) throw new Error(`--shape takes ${Object.keys(shapes).join(", ")}, got "${given.shape}"`);
const GB = 1e9;
const report: Record<string, number | string> = { shape: given.shape!, dtype: given.dtype! };
const note = (name: string, value: number, unit: string): void => {
  report[`${name} (${unit})`] = Number(value.toPrecision(4));
  console.log(`${name.padEnd(28)} ${value.toPrecision(4)} ${unit}`);
};
async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const began = performance.now();
  return [await work(), (performance.now() - began) / 1000];
}

const device = await init();
console.log(`${given.shape} on ${device?.description}, weights ${given.dtype}`);
manualSeed(1);
const withImage = config.model_type === "llava";
const skeleton: Module = withoutInit(() => (withImage ? new Llava(config) : new LlamaForCausalLM(config)));
const names = Object.fromEntries(Object.entries(skeleton.stateDict()).map(([name, { shape }]) => [name, shape]));
const source = syntheticFolder(config, names);
note("weights in the file", source.bytes / GB, "GB");
const options = { dtype: given.dtype as "int4" };
const [model, loading] = await timed<Llava | LlamaForCausalLM>(() =>
  withImage ? Llava.fromPretrained(source, options) : loadLlama(source, options),
);
note("load", loading, "s");
note("read", source.bytes / GB / loading, "GB/s");
note("bytes after loading", memoryStats().liveBytes / GB, "GB");
note("peak while loading", memoryStats().peakBytes / GB, "GB");

const decoder = model instanceof Llava ? model.language_model : model;
const words = Array.from({ length: 48 }, (_, i) => 3 + ((i * 7919) % (decoder.config.vocab_size - 70)));
const image = (size: number) => {
  const data = Float32Array.from({ length: 3 * size * size }, (_, i) => Math.sin(i * 0.37));
  return tensor(data, { shape: [1, 3, size, size] });
};
const ids = model instanceof Llava ? [1, config.image_token_index, ...words] : [1, ...words];
const inputIds = tensor(Int32Array.from(ids), { shape: [1, ids.length] });
const began = performance.now();
const prompt = noGrad(() =>
  model instanceof Llava
    ? model.prompt({ inputIds, pixelValues: image(config.vision_config.image_size) })
    : textPrompt(model, [ids]),
);
const times: number[] = [];
for (const step of steps(decoder, prompt, { maxNewTokens: Number(given.tokens) })) {
  const [id] = await step.ids;
  times.push((performance.now() - began) / 1000);
  console.log(`  token ${times.length}: ${id} after ${times[times.length - 1].toFixed(1)} s`);
}
note("prompt", prompt.lengths[0], "tokens");
note("time to first token", times[0], "s");
if (times.length > 2) note("decode", (times.length - 2) / (times[times.length - 1] - times[1]), "tokens/s");
note("peak bytes", memoryStats().peakBytes / GB, "GB");

if (given.train) {
  addLoRA(model, /language_model.*_proj$|^model\.layers.*_proj$/, { r: 8, alpha: 16 });
  decoder.model.checkpointing = true;
  const trained = model.parameters().filter((p) => p.requiresGrad);
  note("LoRA parameters", trained.reduce((n, p) => n + p.numel, 0) / 1e6, "M");
  const optimizer = new AdamW(trained, { lr: 1e-4 });
  // Text only: an image makes the step ten times as long, and adds only tokens.
  const text = ids.filter((id) => id !== config.image_token_index);
  const input = { inputIds: tensor([text], { dtype: "i32" }) };
  const labels = tensor([text.map((id, i) => (i < 20 ? -100 : id))], { dtype: "i32" });
  note("QLoRA sample", text.length, "tokens");
  for (let step = 0; step < 2; step++) {
    const [value, seconds] = await timed(async () => {
      const loss = model instanceof Llava ? model.loss({ ...input, labels }) : model.loss(input, labels);
      loss.backward();
      await optimizer.step();
      return loss.item();
    });
    note(`QLoRA step ${step + 1}`, seconds, "s");
    note(`loss ${step + 1}`, value, "nats");
  }
  note("peak bytes with training", memoryStats().peakBytes / GB, "GB");
}
note("resident memory", process.memoryUsage().rss / GB, "GB");
const file = "bench/results/large.json";
const known: Record<string, unknown> = (() => {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return {};
  }
})();
mkdirSync("bench/results", { recursive: true });
if (given.shape !== "tiny")
  writeFileSync(
    file,
    `${JSON.stringify({ ...known, [given.shape!]: { device: device?.description, ...report } }, null, 1)}\n`,
  );
