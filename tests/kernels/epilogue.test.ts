import { beforeAll, describe, expect, test } from "vitest";
import type { HostArray } from "../../src/graph/dtype.ts";
import { layerNorm, linear, rmsNorm, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";

let seed = 0;
const random = (...shape: number[]): Tensor =>
  tensor(
    normals(
      shape.reduce((a, b) => a * b, 1),
      ++seed,
    ),
    { shape },
  );

/** What follows a template kernel in models; `y` is its output, of any shape [..., M, N]. */
const tails: Record<string, (y: Tensor) => Tensor> = {
  bias: (y) => y.add(random(y.shape.at(-1)!)),
  "bias and gelu": (y) => y.add(random(y.shape.at(-1)!)).gelu(),
  "residual and scale": (y) => y.mul(0.5).add(random(...y.shape)),
  "a factor a row": (y) => y.mul(random(...y.shape.slice(0, -1), 1)),
  "a mask shared by the batch": (y) => y.maskedFill(random(...y.shape.slice(-2)).gt(0), -1),
  heads: (y) =>
    y
      .reshape([...y.shape.slice(0, -1), y.shape.at(-1)!, 1])
      .transpose(-3, -2)
      .silu(),
  "two uses": (y) => y.sigmoid().mul(y).add(y.sum(-1, true)),
};

const cores: Record<string, (B: number, M: number, N: number) => Tensor> = {
  matmul: (B, M, N) => random(B, M, 13).matmul(random(B, 13, N)),
  "matmul, broadcast and transposed": (B, M, N) =>
    random(1, 13, M)
      .transpose(-1, -2)
      .matmul(random(B, N, 13).transpose(-1, -2)),
  linear: (B, M, N) => linear(random(B, M, 20), random(N, 20)),
  "split matmul": (B, M, N) =>
    random(B, M, 1030)
      .matmul(random(B, 1030, N))
      .mul(0.1),
  softmax: (B, M, N) => random(B, M, N).softmax(-1),
  "log-softmax": (B, M, N) => random(B, M, N).logSoftmax(-1),
  "layer norm": (B, M, N) => layerNorm(random(B, M, N), random(N), random(N)),
  "rms norm": (B, M, N) => rmsNorm(random(B, M, N), random(N)),
};
const shapes = [
  [1, 1, 5],
  [2, 3, 8],
  [3, 17, 12],
  [2, 20, 7],
] as const;

async function run(core: string, tail: string): Promise<HostArray[]> {
  const out: HostArray[] = [];
  for (const [B, M, N] of shapes) {
    seed = 100;
    out.push(await tails[tail](cores[core](B, M, N)).data());
  }
  return out;
}

describe("elementwise work after a template kernel", () => {
  const want = new Map<string, HostArray[]>();
  beforeAll(async () => {
    await init({ backend: "reference" });
    for (const core of Object.keys(cores))
      for (const tail of Object.keys(tails)) want.set(core + tail, await run(core, tail));
    if ((await init()) === undefined) throw new Error("no WebGPU adapter");
  });

  test.each(Object.keys(cores).flatMap((core) => Object.keys(tails).map((tail) => [core, tail])))(
    "%s, then %s",
    async (core, tail) => {
      const got = await run(core, tail);
      want.get(core + tail)!.forEach((w, i) => expect(worstError(got[i], w), `shape ${shapes[i]}`).toBeLessThan(2e-5));
    },
  );
});
