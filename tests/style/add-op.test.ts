/**
 * What a new op costs, by adding two: an elementwise one in a row and a method (CONTRIBUTING.md), a fused one in an op
 * definition and a kernel.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { addKernel } from "../../kernels/index.ts";
import { numel } from "../../src/graph/shape.ts";
import { grid2d } from "../../src/lowering/grid.ts";
import { setLowering } from "../../src/lowering/index.ts";
import { defineOp } from "../../src/ops/define.ts";
import { float, row } from "../../src/ops/elementwise.ts";
import { grad, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import { onKernelTimes } from "../../src/runtime/profile.ts";
import { apply, type Tensor } from "../../src/tensor/tensor.ts";
import { read } from "./files.ts";

// Place 1 of 2 for an elementwise op; place 2 is the Tensor method.
const softsign = row({
  name: "softsign",
  rule: float,
  wgsl: ([x]) => `(${x} / (1.0 + abs(${x})))`,
  js: (x) => x / (1 + Math.abs(x)),
  vjp: (g, _y, [x]) => [g.div(x.abs().add(1).square())],
});

// File 1 of 2 for a fused op: what it is (the fallback: value, oracle, gradient) and how it runs.
const scaledSquareOp = defineOp<{ scale: number }>({
  name: "scaled_square",
  kind: "kernel",
  fallback: ([x], { scale }) => x.square().mul(scale),
});
setLowering("scaled_square", (node, cx) => {
  const values = numel(node.shape);
  return [
    {
      kernel: "scaled_square",
      params: { SCALE: node.attrs.scale as number },
      dims: [values],
      bind: [cx.operand(0).buffer, cx.output()],
      grid: grid2d(Math.ceil(values / 64)),
      epilogue: { shape: [1, 1, values], type: "f32" },
    },
  ];
});
const scaledSquare = (x: Tensor, scale: number): Tensor => apply(scaledSquareOp, [x], { scale }, x.shape, x.dtype);

// File 2 of 2: the kernel, a file in kernels/ that `npm run kernels:index` lists.
addKernel(
  "scaled_square",
  `// y = SCALE * x * x.
const SCALE: f32 = 1.0; // param

struct Dims { values: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// \`i\` = 0, 0, element.
fn epilogue(value: f32, i: vec3u) -> f32 { // hook
  return value;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = at.y * groups.x * 64u + at.x;
  if (i < dims.values) { y[i] = epilogue(SCALE * x[i] * x[i], vec3u(0u, 0u, i)); }
}
`,
);

const values = Float32Array.from({ length: 300 }, (_, i) => Math.sin(i) * 1.5);
const input = () => tensor(values, { shape: [3, 100], requiresGrad: true });

async function expectClose(got: Tensor, want: (x: number) => number): Promise<void> {
  const data = await got.data();
  expect(data.length).toBe(values.length);
  data.forEach((v, i) => {
    expect(Math.abs(v - want(values[i])), `element ${i}`).toBeLessThanOrEqual(1e-5);
  });
}

/** Labels of the kernels that computing `x` runs. */
async function kernelsOf(x: Tensor): Promise<string[]> {
  const labels: string[] = [];
  onKernelTimes((times) => labels.push(...times.map((t) => t.label)));
  await x.data();
  onKernelTimes(undefined);
  return labels;
}

describe.each(["webgpu", "reference"] as const)("on %s", (backend) => {
  beforeAll(async () => {
    await init({ backend });
  });

  test("an elementwise op has value, gradient and second derivative", async () => {
    const x = input();
    await expectClose(softsign(x), (v) => v / (1 + Math.abs(v)));
    const [first] = grad(softsign(x).sum(), [x], { createGraph: true });
    await expectClose(first, (v) => 1 / (1 + Math.abs(v)) ** 2);
    await expectClose(grad(first.sum(), [x])[0], (v) => (-2 * Math.sign(v)) / (1 + Math.abs(v)) ** 3);
  });

  test("a fused op has value, gradient and second derivative", async () => {
    const x = input();
    await expectClose(scaledSquare(x, 3), (v) => 3 * v * v);
    const [first] = grad(scaledSquare(x, 3).sum(), [x], { createGraph: true });
    await expectClose(first, (v) => 6 * v);
    await expectClose(grad(first.sum(), [x])[0], () => 6);
  });
});

test("both fuse with their neighbours into one kernel", async () => {
  const info = await init({ backend: "webgpu" });
  const chain = softsign(input().detach().mul(2)).add(1);
  expect(await kernelsOf(chain)).toHaveLength(info?.timestamps ? 1 : 0);
  await expectClose(chain, (v) => (2 * v) / (1 + Math.abs(2 * v)) + 1);
  const tail = softsign(scaledSquare(input().detach(), 2).add(1));
  expect(await kernelsOf(tail)).toHaveLength(info?.timestamps ? 1 : 0);
  await expectClose(tail, (v) => (2 * v * v + 1) / (2 * v * v + 2));
});

test("the elementwise example of CONTRIBUTING.md is the one above", () => {
  const code = (text: string) => text.split("\n").map((line) => line.replace(/ \/\/ .*$/, "").replace(/^export /, ""));
  const [, example] = /```ts[^\n]*\n(export const softsign[\s\S]*?)```/.exec(read("CONTRIBUTING.md"))!;
  expect(code(read("tests/style/add-op.test.ts"))).toEqual(expect.arrayContaining(code(example.trimEnd())));
});
