/**
 * nanoGPT (https://github.com/karpathy/nanoGPT) on the characters of a sonnet: `node scripts/run.mjs examples/torch/nanogpt.ts`.
 * Trains a few minutes, prints the loss, then writes verses of its own.
 */
import {
  arange,
  crossEntropy,
  init,
  manualSeed,
  noGrad,
  scaledDotProductAttention,
  type Tensor,
  tensor,
} from "../../src/index.ts";
import { AdamW, Dropout, Embedding, LayerNorm, Linear, Module, ModuleList } from "../../src/nn/index.ts";
import { integers, isMain } from "./shared.ts";
import { text } from "./sonnet.ts";

const chars = [...new Set(text)].sort();
const encode = (s: string): number[] => [...s].map((c) => chars.indexOf(c));
const config = { vocab: chars.length, block: 64, layers: 3, heads: 4, width: 64, dropout: 0 };
type Config = typeof config;

class CausalSelfAttention extends Module {
  c_attn: Linear;
  c_proj: Linear;
  constructor(readonly config: Config) {
    super();
    this.c_attn = new Linear(config.width, 3 * config.width);
    this.c_proj = new Linear(config.width, config.width);
  }
  forward(x: Tensor): Tensor {
    const [B, T, C] = x.shape;
    const { heads } = this.config;
    const [q, k, v] = this.c_attn
      .forward(x)
      .split(C, 2)
      .map((t) => t.view([B, T, heads, C / heads]).transpose(1, 2)); // [B, heads, T, C / heads]
    const y = scaledDotProductAttention(q, k, v, { isCausal: true });
    return this.c_proj.forward(y.transpose(1, 2).reshape([B, T, C]));
  }
}

class MLP extends Module {
  c_fc: Linear;
  c_proj: Linear;
  constructor({ width }: Config) {
    super();
    this.c_fc = new Linear(width, 4 * width);
    this.c_proj = new Linear(4 * width, width);
  }
  forward(x: Tensor): Tensor {
    return this.c_proj.forward(this.c_fc.forward(x).gelu());
  }
}

class Block extends Module {
  ln_1: LayerNorm;
  attn: CausalSelfAttention;
  ln_2: LayerNorm;
  mlp: MLP;
  constructor(config: Config) {
    super();
    this.ln_1 = new LayerNorm(config.width);
    this.attn = new CausalSelfAttention(config);
    this.ln_2 = new LayerNorm(config.width);
    this.mlp = new MLP(config);
  }
  forward(x: Tensor): Tensor {
    x = x.add(this.attn.forward(this.ln_1.forward(x)));
    return x.add(this.mlp.forward(this.ln_2.forward(x)));
  }
}

export class GPT extends Module {
  wte = new Embedding(config.vocab, config.width);
  wpe = new Embedding(config.block, config.width);
  drop = new Dropout(config.dropout);
  h = new ModuleList(Array.from({ length: config.layers }, () => new Block(config)));
  ln_f = new LayerNorm(config.width);

  /** Logits [B, T, vocab] of the characters that follow. The output layer shares its weight with the embedding. */
  forward(ids: Tensor): Tensor {
    let x = this.drop.forward(this.wte.forward(ids).add(this.wpe.forward(arange(ids.shape[1]))));
    for (const block of this.h) x = block.forward(x);
    return this.ln_f.forward(x).matmul(this.wte.weight.t());
  }

  async generate(prompt: string, count: number): Promise<string> {
    let ids = encode(prompt);
    for (let i = 0; i < count; i++) {
      const window = ids.slice(-config.block);
      const logits = noGrad(() => this.forward(tensor(Int32Array.from(window)).unsqueeze(0)));
      const next = logits.select(1, window.length - 1).argmax(-1);
      ids = [...ids, await next.item()];
    }
    return ids.map((i) => chars[i]).join("");
  }
}

/** Batch `step`: 16 stretches of the text, and the same one character later. */
export function batch(step: number): [Tensor, Tensor] {
  const { block } = config;
  const starts = integers(step, 16, text.length - block - 1);
  const at = (shift: number): Tensor =>
    tensor(Int32Array.from([...starts].flatMap((s) => encode(text.slice(s + shift, s + shift + block)))), {
      shape: [16, block],
    });
  return [at(0), at(1)];
}

export async function train(model: GPT, steps: number, log: (step: number, loss: number) => void): Promise<void> {
  const optimizer = new AdamW(model.parameters(), { lr: 1e-3, betas: [0.9, 0.99], weightDecay: 0.1, maxNorm: 1 });
  for (let step = 0; step < steps; step++) {
    const [x, y] = batch(step);
    const loss = crossEntropy(model.forward(x).flatten(0, 1), y.flatten());
    loss.backward();
    await optimizer.step();
    log(step, await loss.item());
  }
}

if (isMain(import.meta.url)) {
  await init();
  manualSeed(1);
  const model = new GPT();
  await train(model, 400, (step, loss) => step % 20 === 0 && console.log(`step ${step}: loss ${loss.toFixed(4)}`));
  console.log(await model.generate("Shall I", 300));
}
