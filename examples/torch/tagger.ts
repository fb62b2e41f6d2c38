/**
 * An LSTM that tags each word of a sequence: has it occurred before? `node scripts/run.mjs examples/torch/tagger.ts`.
 * After PyTorch's tutorial on sequence models.
 */
import { crossEntropy, init, manualSeed, noGrad, type Tensor, tensor } from "../../src/index.ts";
import { Adam, Embedding, Linear, LSTM, Module } from "../../src/nn/index.ts";
import { integers, isMain } from "./shared.ts";

const [WORDS, LENGTH, BATCH] = [12, 16, 32];

export class Tagger extends Module {
  embed = new Embedding(WORDS, 32);
  lstm = new LSTM(32, 64, { batchFirst: true });
  tag = new Linear(64, 2);

  /** ids [B, T] -> scores [B, T, 2]. */
  forward(ids: Tensor): Tensor {
    const [output] = this.lstm.forward(this.embed.forward(ids));
    return this.tag.forward(output);
  }
}

/** Batch `step`: random words, and 1 where a word has occurred before in its row. */
export function batch(step: number): [Tensor, Tensor] {
  const ids = integers(1000 + step, BATCH * LENGTH, WORDS);
  const tags = ids.map((id, i) => Number(ids.subarray(i - (i % LENGTH), i).includes(id)));
  return [tensor(ids, { shape: [BATCH, LENGTH] }), tensor(tags, { shape: [BATCH, LENGTH] })];
}

export async function train(model: Tagger, steps: number, log: (step: number, loss: number) => void): Promise<void> {
  const optimizer = new Adam(model.parameters(), { lr: 1e-2 });
  for (let step = 0; step < steps; step++) {
    const [x, y] = batch(step);
    const loss = crossEntropy(model.forward(x).flatten(0, 1), y.flatten());
    loss.backward();
    await optimizer.step();
    log(step, await loss.item());
  }
}

/** Share of right tags in a batch that was not trained on. */
export async function accuracy(model: Tagger): Promise<number> {
  const [x, y] = batch(-1);
  return noGrad(() => model.forward(x).argmax(-1).eq(y).float().mean()).item();
}

if (isMain(import.meta.url)) {
  await init();
  manualSeed(1);
  const model = new Tagger();
  await train(model, 300, (step, loss) => step % 25 === 0 && console.log(`step ${step}: loss ${loss.toFixed(4)}`));
  console.log(`right tags: ${(100 * (await accuracy(model))).toFixed(1)} %`);
}
