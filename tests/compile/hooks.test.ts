import { beforeAll, describe, expect, test } from "vitest";
import { plan } from "../../src/index.ts";
import { layerNorm, rmsNorm, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import { explain } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";

/** Inputs by shape; all are trained. */
type Case = {
  inputs: readonly (readonly number[])[];
  /** Loss is the sum of the first result times fixed numbers; all results are checked. */
  f: (...x: Tensor[]) => Tensor[];
  /** Labels of the forward plan's kernels. */
  kernels: readonly string[];
};

const rows = [5, 12];
const wide = [3, 7, 20];
const matmul = "mat(mul|mul_tiled|vec)"; // whichever suits the adapter

const cases: Record<string, Case> = {
  // What follows a product
  "matmul, gelu": { inputs: [rows, [12, 8]], f: (x, w) => [x.matmul(w).gelu()], kernels: [`${matmul}→gelu`] },
  "matmul, tanh gelu": {
    inputs: [rows, [12, 8]],
    f: (x, w) => [x.matmul(w).gelu({ approximate: "tanh" })],
    kernels: [`${matmul}→gelu_tanh`],
  },
  "matmul, bias, quick gelu": {
    inputs: [rows, [12, 7], [7]],
    f: (x, w, b) => [x.matmul(w).add(b).quickGelu()],
    kernels: [`${matmul}→add·quick_gelu`],
  },
  "matmul, scale": { inputs: [rows, [12, 8]], f: (x, w) => [x.matmul(w).mul(0.125)], kernels: [`${matmul}→.*mul`] },
  "matmul, residual": {
    inputs: [rows, [12, 12]],
    f: (x, w) => [x.matmul(w).add(x)],
    kernels: [`${matmul}→add`],
  },
  "silu gate": {
    inputs: [rows, [12, 8], [12, 8]],
    f: (x, gate, up) => [x.matmul(gate).silu().mul(x.matmul(up))],
    kernels: [matmul, `${matmul}→silu·mul`],
  },
  // What makes the source of a row kernel
  "sum, rms norm": {
    inputs: [rows, rows, [12]],
    f: (x, y, w) => [rmsNorm(x.add(y), w)],
    kernels: ["add→norm"],
  },
  "sum, kept, rms norm": {
    inputs: [rows, rows, [12]],
    f: (x, y, w) => {
      const sum = x.add(y);
      return [rmsNorm(sum, w), sum];
    },
    kernels: ["add→norm"],
  },
  "sum, layer norm, and the sum again": {
    inputs: [wide, wide, [20], [20], [20, 20]],
    f: (x, y, w, b, m) => {
      const sum = x.add(y);
      return [layerNorm(sum, w, b).matmul(m).add(sum)];
    },
    kernels: ["add→norm", `${matmul}→add`],
  },
  "sum of a broadcast, layer norm, gelu": {
    inputs: [wide, [7, 1], [20], [20]],
    f: (x, y, w, b) => [layerNorm(x.add(y), w, b).gelu()],
    kernels: ["add→norm→gelu"],
  },
  "columns that are no multiple of 4": {
    inputs: [[4, 3, 5], [3, 5], [5], [5]],
    f: (x, y, w, b) => [layerNorm(x.mul(y), w, b)],
    kernels: ["mul→norm"],
  },
  "scale, softmax": { inputs: [wide], f: (x) => [x.mul(0.3).softmax(-1)], kernels: [".*mul→softmax"] },
  "bias, log-softmax": { inputs: [wide, [20]], f: (x, b) => [x.add(b).logSoftmax(-1)], kernels: ["add→softmax"] },
  "reshaped sum, norm of heads": {
    inputs: [[6, 24], [6, 24], [8]],
    f: (x, y, w) => [rmsNorm(x.add(y).reshape([6, 3, 8]), w)],
    kernels: ["add→norm"],
  },
};

/** Results, and gradients of all inputs. */
async function run({ inputs, f }: Case): Promise<ArrayLike<number>[]> {
  const x = inputs.map((shape, i) => input(shape, i).requiresGrad_());
  const out = f(...x);
  out[0].mul(input(out[0].shape, 50)).sum().backward();
  return Promise.all([...out, ...x.map((t) => t.grad!)].map((t) => t.data()));
}

const input = (shape: readonly number[], i: number): Tensor =>
  tensor(
    normals(
      shape.reduce((a, b) => a * b, 1),
      i + 1,
    ),
    { shape: [...shape] },
  );

const labels = (text: string): string[] => text.split("\n").map((line) => line.trim().split(/\s+/)[1]);

describe("elementwise work inside of template kernels", () => {
  const want = new Map<string, ArrayLike<number>[]>();
  beforeAll(async () => {
    await init({ backend: "reference" });
    for (const [name, c] of Object.entries(cases)) want.set(name, await run(c));
    if (!(await init({ fuse: "always" }))) throw new Error("no WebGPU adapter");
  });

  test.each(Object.keys(cases))("%s", async (name) => {
    const { inputs, f, kernels } = cases[name];
    const x = inputs.map(input);
    const planned = await plan(...f(...x));
    const found = labels(planned!.text);
    expect(found.length, planned!.text).toBe(kernels.length);
    kernels.forEach((k, i) => expect(found[i]).toMatch(new RegExp(`^${k}$`)));
    const got = await run(cases[name]);
    want.get(name)!.forEach((w, i) => expect(worstError(got[i], w), `value ${i}`).toBeLessThan(2e-5));
    expect(await run(cases[name])).toEqual(got); // replayed
  });
});

/** Halves are widened where row kernels read them and rounded where they are written. */
const halfCases: Record<string, { f: (x: Tensor, y: Tensor, w: Tensor) => Tensor; kernel: string }> = {
  softmax: { f: (x) => x.half().softmax(-1), kernel: ".*cast→softmax→cast" },
  "residual and norm": { f: (x, y, w) => rmsNorm(x.half().add(y.half()), w.half()), kernel: ".*norm→cast" },
  product: {
    f: (x, _, w) =>
      x.half().matmul(
        w
          .reshape([20, 1])
          .mul(w.slice([[0, 8]]))
          .half(),
      ),
    kernel: "cast&mul·cast→matmul(_tiled)?→cast",
  },
  "product, bias, residual, silu": {
    f: (x, y, w) => {
      const h = x.half();
      return h
        .matmul(w.reshape([20, 1]).mul(w).half())
        .add(w.half())
        .add(y.half())
        .silu();
    },
    kernel: "cast&mul·cast→matmul(_tiled)?→.*add·.*add·silu",
  },
  "norm, gelu": { f: (x, _, w) => layerNorm(x, w, w).half().gelu(), kernel: "norm→cast·gelu" },
};

describe.each(["storage", "native"] as const)("halves, %s arithmetic", (f16) => {
  test.each(Object.keys(halfCases))("%s", async (name) => {
    const { f, kernel } = halfCases[name];
    const inputs = (): [Tensor, Tensor, Tensor] => [input(wide, 1), input(wide, 2), input([20], 3)];
    await init({ backend: "reference" });
    const want = await f(...inputs()).data();
    await init({ f16, fuse: "always" });
    const y = f(...inputs());
    expect(y.dtype).toBe("f16");
    const found = labels((await plan(y))!.text);
    expect(found.at(-1)).toMatch(new RegExp(`^${kernel}$`));
    expect(worstError(await y.data(), want)).toBeLessThan(4e-3); // of values up to 4: two units in the last place
  });
});

describe("what a row kernel leaves to others", () => {
  beforeAll(async () => {
    if (!(await init({ fuse: "always" }))) throw new Error("no WebGPU adapter");
  });
  const kernelsOf = async (...out: Tensor[]): Promise<string[]> => labels((await plan(...out))!.text);
  const [x, y, w] = [rows, rows, [12]].map(input);

  test("a sum that an earlier kernel reads", async () => {
    const sum = x.add(y);
    const square = sum.matmul(sum.t());
    expect(await kernelsOf(square, rmsNorm(sum, w))).toEqual(["add", expect.stringMatching(matmul), "norm"]);
  });

  test("a sum that comes with a product", async () => {
    expect(await kernelsOf(rmsNorm(x.matmul(input([12, 12], 3)).add(y), w))).toEqual([
      expect.stringMatching(`${matmul}→add`),
      "norm",
    ]);
  });

  test("a sum that its epilogue reads", async () => {
    const sum = x.add(y);
    expect(await kernelsOf(rmsNorm(sum, w).add(sum))).toEqual(["add", "norm→add"]);
  });

  test("more operands than the adapter binds", async () => {
    await init({ defaultLimits: true, fuse: "always" });
    const many = Array.from({ length: 5 }, (_, i) => input(rows, i));
    const sum = many.reduce((a, b) => a.add(b));
    const labels = await kernelsOf(rmsNorm(sum, w));
    expect(labels.at(-1)).toBe("norm");
    const few = many.slice(0, 4).reduce((a, b) => a.add(b));
    expect(await kernelsOf(rmsNorm(few, w))).toEqual(["add·add·add→norm"]);
    expect(await explain(rmsNorm(few, w))).toContain("1 kernels");
    await init({ fuse: "always" });
  });
});
