/**
 * The examples that read like their PyTorch originals: the losses of ten steps equal PyTorch's (torch_losses.py, in float64),
 * and training gets somewhere.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import * as nanogpt from "../../examples/torch/nanogpt.ts";
import * as resnet from "../../examples/torch/resnet.ts";
import { uniform } from "../../examples/torch/shared.ts";
import * as tagger from "../../examples/torch/tagger.ts";
import * as vae from "../../examples/torch/vae.ts";
import { root } from "../../scripts/environment.mjs";
import { manualSeed, type Tensor, tensor } from "../../src/index.ts";
import type { Module } from "../../src/nn/index.ts";
import { openBackend } from "../support/backend.ts";

const losses: Record<string, number[]> = JSON.parse(
  readFileSync(join(root, "tests/examples/torch-losses.json"), "utf8"),
);

/** The weights of torch_losses.py: numbers that both languages compute. */
async function fill<M extends Module>(model: M): Promise<M> {
  const named = [...model.namedParameters()].sort(([a], [b]) => (a < b ? -1 : 1));
  const values = named.map(([name, p], k): [string, Tensor] => {
    const fan = p.ndim > 1 ? p.numel / p.shape[0] : 100;
    const base = p.ndim === 1 && name.endsWith("weight") ? 1 : 0;
    const data = uniform(7000 + k, p.numel, -1, 1).map((x) => base + x / Math.sqrt(fan));
    return [name, tensor(data, { shape: p.shape })];
  });
  model.loadStateDict({ ...model.stateDict(), ...Object.fromEntries(values) });
  return model;
}

/** Losses of a training run. */
async function run(train: (log: (step: number, loss: number) => void) => Promise<void>): Promise<number[]> {
  const found: number[] = [];
  await train((step, loss) => void (found[step] = loss));
  return found;
}

function same(got: readonly number[], want: readonly number[], tolerance: number): void {
  expect(got.length).toBe(want.length);
  for (const [i, loss] of got.entries())
    expect(Math.abs(loss / want[i] - 1), `loss ${loss} of step ${i}, expected ${want[i]}`).toBeLessThan(tolerance);
}

describe("PyTorch's losses", () => {
  beforeAll(async () => {
    await openBackend();
    manualSeed(1);
  });

  test("nanoGPT, which then learns the sonnet", { timeout: 300_000 }, async () => {
    const model = await fill(new nanogpt.GPT());
    same(await run((log) => nanogpt.train(model, 10, log)), losses.nanogpt, 1e-4);
    const later = await run((log) => nanogpt.train(model, 150, log));
    expect(later.at(-1)).toBeLessThan(2.3);
  });

  test("LSTM tagger, which then remembers words", { timeout: 300_000 }, async () => {
    const model = await fill(new tagger.Tagger());
    same(await run((log) => tagger.train(model, 10, log)), losses.tagger, 1e-4);
    const fresh = new tagger.Tagger(); // the weights of the file learn slowly
    await run((log) => tagger.train(fresh, 200, log));
    expect(await tagger.accuracy(fresh)).toBeGreaterThan(0.93);
  });

  test("VAE, whose discs then become sharper", { timeout: 300_000 }, async () => {
    const model = await fill(new vae.VAE());
    const noise = (step: number): Tensor => tensor(uniform(5000 + step, 64 * 8, -1.7, 1.7), { shape: [64, 8] });
    const first = await run((log) => vae.train(model, 10, log, noise));
    same(
      first.map((loss) => loss * 64),
      losses.vae,
      1e-4,
    );
    const later = await run((log) => vae.train(model, 400, log));
    expect(later.at(-1)).toBeLessThan(first[0] / 4);
  });

  test("ResNet-18, which then tells waves apart", { timeout: 600_000 }, async () => {
    const model = await fill(new resnet.ResNet18());
    // Batch norm over four images: differences grow about tenfold per step. PyTorch's own f32 ends 6e-3 from f64.
    const got = await run((log) => resnet.train(model, 10, log));
    same(got.slice(0, 3), losses.resnet.slice(0, 3), 1e-4);
    same(got, losses.resnet, 2.5e-2);
    await run((log) => resnet.train(model, 30, log));
    expect(await resnet.accuracy(model)).toBeGreaterThan(0.3); // chance is 0.1
  });
});
