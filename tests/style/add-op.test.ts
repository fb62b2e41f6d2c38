/** What a new op costs: one of each kind, each from the files of its own that new-ops/ holds. */
import { describe, expect, test } from "vitest";
import { allOps } from "../../src/graph/op.ts";
import { tensor } from "../../src/ops/functional.ts";
import { evaluate } from "../../src/reference/interpreter.ts";
import { init } from "../../src/runtime/engine.ts";
import { flush } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { expectClose } from "../support/compare.ts";
import { gradientError, randomLeaf, secondOrderError, uniform } from "../support/f64.ts";
import { kernelLabels } from "../support/plans.ts";
import { list, read } from "./files.ts";
import { standardize } from "./new-ops/composed.ts";
import { softsign } from "./new-ops/elementwise.ts";
import { scaledSquare } from "./new-ops/fused.ts";
import { absMax } from "./new-ops/reduction.ts";
import { mainDiagonal } from "./new-ops/view.ts";

interface NewOp {
  /** Its files below new-ops/. An elementwise op, a view and a reduction also have a method in tensor.ts. */
  readonly files: readonly string[];
  readonly f: (x: Tensor) => Tensor;
  /** The same by ordinary ops or in JS: one list of values, row-major. */
  readonly want: (x: number[], n: number) => number[];
  /** The op between others, and how many kernels that is. */
  readonly chain: (x: Tensor) => Tensor;
  readonly kernels: number;
}

const rowsOf = (x: number[], n: number): number[][] => Array.from({ length: n }, (_, i) => x.slice(i * n, (i + 1) * n));

/** All take a square matrix [n, n]. */
const ops: Readonly<Record<string, NewOp>> = {
  composed: {
    files: ["composed.ts"],
    f: (x) => standardize(x, 1),
    want: (x, n) =>
      rowsOf(x, n).flatMap((row) => {
        const mean = row.reduce((a, b) => a + b) / n;
        const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / n;
        return row.map((v) => (v - mean) / Math.sqrt(variance + 1e-5));
      }),
    chain: (x) => standardize(x.mul(2), 1).add(1),
    kernels: 3, // two sums, each with what comes before it, and one pass
  },
  elementwise: {
    files: ["elementwise.ts"],
    f: (x) => softsign(x),
    want: (x) => x.map((v) => v / (1 + Math.abs(v))),
    chain: (x) => softsign(x.mul(2)).add(1),
    kernels: 1,
  },
  view: {
    files: ["view.ts"],
    f: mainDiagonal,
    want: (x, n) => rowsOf(x, n).map((row, i) => row[i]),
    chain: (x) => mainDiagonal(x.mul(2)).flip(0).add(1),
    kernels: 1,
  },
  reduction: {
    files: ["reduction.ts"],
    f: (x) => absMax(x, 1).square(), // squared: it has a second derivative
    want: (x, n) => rowsOf(x, n).map((row) => Math.max(...row.map(Math.abs)) ** 2),
    chain: (x) => absMax(x.mul(2).sub(1), 1).add(1),
    kernels: 1,
  },
  fused: {
    files: ["fused.ts", "scaled_square.wgsl"],
    f: (x) => scaledSquare(x, 3),
    want: (x) => x.map((v) => 3 * v * v),
    chain: (x) => softsign(scaledSquare(x, 2).add(1)),
    kernels: 1,
  },
};

const matrix = (n: number): Tensor => tensor(uniform(n * n, -1.5, 1.5, 4), { shape: [n, n] });
const valuesOf = (n: number): number[] => Array.from(Float32Array.from(uniform(n * n, -1.5, 1.5, 4)));

test("each kind comes from files of its own, and no others are needed", () => {
  const files = Object.values(ops).flatMap((op) => op.files.map((file) => `tests/style/new-ops/${file}`));
  expect(list("tests/style/new-ops", /./)).toEqual(files.sort());
  const names = ["softsign", "main_diagonal", "abs_max", "scaled_square"];
  expect(names.map((name) => allOps().get(name)?.kind)).toEqual(["elementwise", "view", "reduce", "kernel"]);
});

describe.each(Object.entries(ops))("%s", (_kind, { f, want, chain, kernels }) => {
  test.each(["reference", "webgpu"] as const)("value on %s", async (backend) => {
    await init({ backend });
    const got = await f(matrix(33)).data();
    expectClose({ got: [got], want: [want(valuesOf(33), 33)] }, 2e-6);
  });

  test("first and second derivative are those of differences", () => {
    const x = randomLeaf([4, 4], -1.5, 1.5, 4);
    expect(gradientError(f, [x])).toBeLessThan(1e-7);
    expect(secondOrderError(f, [x])).toBeLessThan(1e-6);
  });

  test("joins its neighbours", async () => {
    await init({ backend: "webgpu", fuse: "always" });
    const x = matrix(33);
    expect(await kernelLabels(chain(x))).toHaveLength(kernels);
    const reference = chain(matrix(33));
    evaluate([reference.node]);
    expectClose({ got: [await chain(x).data()], want: [reference.node.host!] }, 2e-6);
  });

  test("is cut into parts where its operand exceeds a binding", async () => {
    const n = 150; // 90,000 bytes
    await init({ backend: "webgpu", limits: { maxStorageBufferBindingSize: 1 << 16 } });
    const x = matrix(n);
    await flush(x);
    expect((await kernelLabels(f(x))).length).toBeGreaterThan(1);
    const got = await f(x).data();
    expectClose({ got: [got], want: [want(valuesOf(n), n)] }, 2e-6);
  });
});

test("the examples of CONTRIBUTING.md are lines of these files", () => {
  const code = (text: string) =>
    text.split("\n").flatMap(
      (line) =>
        line
          .replace(/\s*\/\/ .*$/, "")
          .replace(/^export /, "")
          .trim() || [],
    );
  const examples = [
    ...read("CONTRIBUTING.md").matchAll(/^```ts fragment: run by tests\/style\/add-op[^\n]*\n([\s\S]*?)^```/gm),
  ];
  expect(examples.length).toBeGreaterThanOrEqual(4);
  const ours = list("tests/style/new-ops", /\.ts$/).flatMap((path) => code(read(path)));
  for (const [, example] of examples) expect(ours).toEqual(expect.arrayContaining(code(example)));
});
