/**
 * One sample or more of every op of the table: inputs and a call that uses it. `table.test.ts` takes values, gradients,
 * dtypes, broadcasting and strided inputs from here. Elementwise ops and reductions that are methods of Tensor need a
 * line only where their domain is special.
 */

import { allOps } from "../../src/graph/op.ts";
import * as sg from "../../src/index.ts";
import { dequantize, quantize, quantizedLinear } from "../../src/nn/index.ts";
import { adamw, adamwInt8 } from "../../src/ops/adamw.ts";
import { int8Words, readInt8, writeInt8At } from "../../src/ops/int8.ts";
import { pack } from "../../src/ops/pack.ts";
import { conv } from "./samples/conv.ts";
import { elementwise } from "./samples/elementwise.ts";
import { indexing } from "./samples/indexing.ts";
import { linalg } from "./samples/linalg.ts";
import { norm } from "./samples/norm.ts";
import { recurrent } from "./samples/recurrent.ts";
import { reduce } from "./samples/reduce.ts";
import { box, every, type Family, ints, of, type Sample, stepwise, type Tensors } from "./samples/sample.ts";
import { scan } from "./samples/scan.ts";
import { shape } from "./samples/shape.ts";
import { sorting } from "./samples/sorting.ts";

export type { Input, Sample, Tensors } from "./samples/sample.ts";

const families: readonly Family[] = [
  elementwise,
  reduce,
  shape,
  sorting,
  indexing,
  conv,
  norm,
  linalg,
  scan,
  recurrent,
];

/** Domains of elementwise ops that need one, input by input. */
const domains: Family["domains"] & {} = Object.assign({}, ...families.map((f) => f.domains), {
  div: [
    [-1, 1],
    [0.5, 2],
  ],
  log: [[0.2, 2]],
  pow: [
    [0.2, 2],
    [-2, 2],
  ],
  reciprocal: [[0.2, 2]],
  rsqrt: [[0.2, 2]],
  sqrt: [[0.2, 2]],
});
const stepped = ["sign", "floor", "ceil", "round", ...families.flatMap((f) => f.stepped ?? [])];

/** The gradients of sum(f(x) * g) for x: what the op's backward kernel computes. */
function slope(f: (...x: sg.Tensor[]) => sg.Tensor, g: sg.Tensor, x: Tensors): Tensors {
  const trained = x.map((t) => (t.requiresGrad ? t : t.requiresGrad_()));
  return sg.grad(
    f(...trained)
      .mul(g)
      .sum(),
    trained,
    { createGraph: true },
  );
}

const heads = [of([1, 4, 3, 4]), of([1, 2, 5, 4]), of([1, 2, 5, 4])];
const attend = (q: sg.Tensor, k: sg.Tensor, v: sg.Tensor) => sg.scaledDotProductAttention(q, k, v, { isCausal: true });
const classes = ints([1, -100, 0, 4]);
const rows = [of([2, 3, 8]), of([8]), of([8])];
const int4 = (w: sg.Tensor) => quantize(w.detach(), [4, 64], { format: "int4", group: 32, zeroPoint: true });
const nf4 = (w: sg.Tensor) => quantize(w.detach(), [4, 64], { format: "nf4", group: 64 });
const cache8 = (value: sg.Tensor, at: sg.Tensor): sg.Tensor => {
  const words = sg.zeros([2, 1, 4, int8Words(6)], { dtype: "u32" });
  return readInt8(writeInt8At(words, value, at), 6);
};
const rounded = "codes are rounded";

const given: Readonly<Record<string, Sample | readonly Sample[]>> = {
  // Elementwise
  bits: { inputs: [of([4, 64])], f: (w) => dequantize(int4(w)), noGradient: rounded },
  byte_of: { inputs: [of([2, 1, 2, 6]), ints([1, 0])], f: cache8, noGradient: rounded },
  cast: [
    { inputs: [of(box, -3, 3)], f: (x) => [x.int(), x.half(), x.to("bool")], noGradient: stepwise },
    { inputs: [ints([-2, 0, 3])], f: (x) => [x.float(), x.half(), x.to("bool")], noGradient: stepwise },
  ],
  clamp: [
    { inputs: [of(box)], f: (x) => x.clamp({ min: -0.4, max: 0.6 }), dtypes: every },
    { inputs: [of(box)], f: (x) => x.clamp({ min: 0.1 }) },
    { inputs: [of(box)], f: (x) => x.clamp({ max: 0.1 }) },
  ],
  float_of: { inputs: [of([2, 1, 2, 6]), ints([1, 0])], f: cache8, noGradient: rounded },
  full: { inputs: [of(box)], f: (x) => sg.full(x.shape, 2.5).mul(x) },
  gelu: { inputs: [of(box, -4, 4)], f: (x) => x.gelu(), dtypes: every },
  gelu_slope: { inputs: [of(box, -4, 4), of(box)], f: (x, g) => slope((t) => t.gelu(), g, [x]) },
  gelu_tanh: { inputs: [of(box, -4, 4)], f: (x) => x.gelu({ approximate: "tanh" }), dtypes: every },
  iota: { inputs: [of(box)], f: (x) => x.mul(sg.arange(x.shape.at(-1)!)).add(sg.arange(0, x.shape.at(-1)! / 2, 0.5)) },
  mod: [
    {
      inputs: [of(box, 0.8, 1.3), of(box, 0.6, 0.7)],
      f: (a, b) => a.mod(b),
      broadcasts: true,
      dtypes: ["f16", "i32", "u32"],
    },
    { inputs: [of(box, -4, 4)], f: (x) => x.mod(3), noGradient: stepwise },
    { inputs: [ints([-4, -3, -1, 0, 1, 3, 5])], f: (x) => [x.mod(3), x.mod(-2)], noGradient: "integers" },
  ],
  nf4: { inputs: [of([4, 64])], f: (w) => dequantize(nf4(w)), noGradient: rounded },
  pow: [
    { inputs: [of(box, 0.2, 2), of(box, -2, 2)], f: (a, b) => a.pow(b), broadcasts: true, dtypes: ["f16"] },
    { inputs: [of(box)], f: (x) => x.pow(4), dtypes: every },
    { inputs: [of(box, -2, -0.5)], f: (x) => x.pow(-2) },
    { inputs: [of(box, 0.2, 2)], f: (x) => x.pow(2.5) },
    { inputs: [of(box)], f: (x) => sg.full(x.shape, 2).pow(x) },
  ],
  rand: { inputs: [of(box)], f: (x) => x.mul(sg.rand(...x.shape)), noGradient: "other numbers at every call" },
  where: {
    inputs: [of(box), of(box), of(box)],
    f: (c, a, b) => sg.where(c.gt(0), a.square(), b.exp()),
    broadcasts: true,
    dtypes: every,
  },

  // Views
  expand: { inputs: [of([2, 1, 4])], f: (x) => x.unsqueeze(0).expand([5, 2, 3, 4]), dtypes: every },
  flip: { inputs: [of(box)], f: (x) => [x.flip([0, 2]), x.roll(-1, 1)], dtypes: every },
  pad: {
    inputs: [of(box)],
    f: (x) => [
      x.pad(
        [
          [1, 0],
          [-1, 2],
          [0, 1],
        ],
        3,
      ),
      sg.cat([x, x.mul(2), x, x.square(), x, x], 1),
      sg.stack([x, x.exp()], -1),
    ],
  },
  permute: { inputs: [of(box)], f: (x) => x.permute([2, 0, 1]), dtypes: every },
  reshape: { inputs: [of(box)], f: (x) => [x.reshape([-1, 2]), x.repeatInterleave(3, 1)], dtypes: every },
  slice: { inputs: [of(box)], f: (x) => x.slice([[], [1, null, 2], [null, -1]]), dtypes: every },
  unfold: { inputs: [of([2, 5, 8])], f: (x) => [x.unfold(2, 2, 3), x.unfold(1, 2, 1, 2)], dtypes: every },

  // Gathers
  gather: { inputs: [of(box), ints([0, 3, 3, 1, 0, 2], [2, 1, 3])], f: (x, at) => x.gather(2, at) },
  index_select: {
    inputs: [of(box), ints([2, 0, 2])],
    f: (x, at) => [x.indexSelect(1, at), sg.embedding(at, x.select(0, 0))],
  },

  // Reductions
  argmax: {
    inputs: [of(box)],
    f: (x) => [x.argmax(1), x.argmax()],
    noGradient: stepwise,
    dtypes: ["f16", "i32", "u32"],
  },
  argmin: {
    inputs: [of(box)],
    f: (x) => [x.argmin(1), x.argmin()],
    noGradient: stepwise,
    dtypes: ["f16", "i32", "u32"],
  },
  max: { inputs: [of(box)], f: (x) => [x.amax([1, 2]), x.max(1).values, x.max()], dtypes: ["f16", "i32", "u32"] },
  min: { inputs: [of(box)], f: (x) => [x.amin(0), x.min(2, true).values, x.min()], dtypes: ["f16", "i32", "u32"] },
  prod: [
    { inputs: [of(box, 0.2, 2)], f: (x) => x.prod(2), dtypes: ["f16", "i32"] },
    { inputs: [of(box, 0.2, 2)], f: (x) => x.prod() },
    { inputs: [ints([1, -2, 0, 3, 0, 0, -1, 2, 3], [3, 3], "f32")], f: (x) => x.prod(1) },
  ],
  sum: {
    inputs: [of(box)],
    f: (x) => [x.sum([0, 2]), x.mean(1, true), x.var({ dim: [1, 2] }), x.sum()],
    dtypes: every,
  },

  // Kernels
  adamw: {
    inputs: [of([70]), of([70]), of([70]), of([70], 0.1, 1), of([8], 0.1, 0.9)],
    f: (p, g, m, v, hyper) => adamw(p, g, m, v, hyper),
    noGradient: "an update",
  },
  adamw_int8: {
    inputs: [
      of([256]),
      of([256]),
      ints(new Array(64).fill(0), [64], "u32"),
      ints(new Array(64).fill(0), [64], "u32"),
      of([1, 2], 0, 1),
      of([8], 0.1, 0.9),
    ],
    // Codes may differ by one where a value lies between two: they are compared in tests/nn/int8-states.test.ts.
    f: (p, g, m, v, scales, hyper) => {
      const [next, , , high] = adamwInt8(p, g, m, v, scales, hyper);
      return [next, high];
    },
    noGradient: "an update",
  },
  attention: [
    { inputs: heads, f: (q, k, v) => sg.scaledDotProductAttention(q, k, v), tolerance: 1e-5 },
    { inputs: [of([2, 1, 4, 2])], f: (x) => attend(x, x, x), tolerance: 1e-5 },
    {
      inputs: [of([1, 2, 3, 2]), of([1, 2, 3, 2]), of([1, 3, 3])],
      f: (q, k, bias) => sg.scaledDotProductAttention(q, k, k, { bias }),
      tolerance: 1e-5,
    },
    {
      inputs: [of([2, 1, 2, 2]), of([2, 1, 5, 2]), of([2, 1, 5, 2]), ints([3, 5])],
      f: (q, k, v, lengths) =>
        sg.scaledDotProductAttention(q, k, v, { isCausal: true, align: "bottom-right", lengths }),
      tolerance: 1e-5,
    },
  ],
  attention_backward: {
    inputs: [...heads, of([1, 4, 3, 4])],
    f: (q, k, v, g) => slope(attend, g, [q, k, v]),
    tolerance: 1e-5,
  },
  cross_entropy: [
    { inputs: [of([4, 5]), classes], f: (x, t) => sg.crossEntropy(x, t, { labelSmoothing: 0.1 }), tolerance: 1e-5 },
    { inputs: [of([2, 3, 2]), ints([1, 0, 2, 2], [2, 2])], f: (x, t) => sg.crossEntropy(x, t), tolerance: 1e-5 },
  ],
  cross_entropy_backward: {
    inputs: [of([4, 5]), classes, of([4])],
    f: (x, t, g) => slope((z) => sg.crossEntropy(z, t, { reduction: "none" }), g, [x]),
    tolerance: 1e-5,
  },
  cumsum: { inputs: [of([2, 5, 4])], f: (x) => [x.cumsum(1), x.cumsum(-1)], tolerance: 1e-5 },
  index_add: { inputs: [of([4, 2]), of([3, 2]), ints([2, 0, 2])], f: (x, y, at) => x.indexAdd(0, at, y) },
  index_sum: {
    inputs: [of([5, 3]), of([4, 3]), ints([4, 0, 4, 2])],
    f: (w, g, at) => slope((t) => sg.embedding(at, t).square(), g, [w]),
  },
  layer_norm: [
    { inputs: rows, f: (x, w, b) => sg.layerNorm(x, w, b), tolerance: 1e-5 },
    { inputs: [of([2, 4, 3]), of([4]), of([4])], f: (x, w, b) => sg.groupNorm(x, 2, w, b), tolerance: 1e-5 },
  ],
  layer_norm_backward: {
    inputs: [...rows, of([2, 3, 8])],
    f: (x, w, b, g) => slope((...t) => sg.layerNorm(t[0], t[1], t[2]), g, [x, w, b]),
    tolerance: 2e-5,
  },
  linear_cross_entropy: {
    inputs: [of([5, 3]), of([7, 3]), ints([1, 0, -100, 6, 2])],
    f: (h, w, t) => sg.linearCrossEntropy(h, w, t),
    noSecond: "refused by name",
    tolerance: 1e-5,
  },
  linear_cross_entropy_gradient: {
    inputs: [of([5, 3]), of([7, 3]), ints([1, 0, -100, 6, 2])],
    f: (h, w, t) => sg.grad(sg.linearCrossEntropy(h, w, t), [h, w]),
    noGradient: "refused by name",
    tolerance: 1e-5,
  },
  log_softmax: { inputs: [of(box)], f: (x) => [x.logSoftmax(-1), x.logSoftmax(1)], tolerance: 1e-5 },
  log_softmax_backward: {
    inputs: [of(box), of(box)],
    f: (x, g) => slope((t) => t.logSoftmax(-1), g, [x]),
    tolerance: 1e-5,
  },
  matmul: [
    { inputs: [of([3, 4]), of([4, 2])], f: (a, b) => a.matmul(b) },
    { inputs: [of([2, 1, 3, 4]), of([3, 4, 2])], f: (a, b) => a.matmul(b) },
    { inputs: [of([4]), of([2, 4, 3])], f: (a, b) => a.matmul(b) },
    { inputs: [of([2, 3, 4]), of([5, 4]), of([5])], f: (x, w, b) => sg.linear(x, w, b) },
    {
      inputs: [of([1, 4, 5, 4]), of([2, 2, 3, 3]), of([2])],
      f: (x, w, b) => sg.conv2d(x, w, b, { stride: 2, padding: 1, groups: 2 }),
    },
    {
      inputs: [of([1, 1, 5, 4])],
      f: (x) => sg.interpolate(x, { size: [3, 7], mode: "bicubic", antialias: true }),
    },
  ],
  pack: { inputs: [of([2, 3]), of([70])], f: (a, b) => pack([a, b.square()]) },
  quantized_matmul: {
    inputs: [of([3, 64]), of([4, 64])],
    f: (x, w) => [quantizedLinear(x, int4(w)), quantizedLinear(x, nf4(w))],
    noGradient: rounded,
    tolerance: 1e-5,
  },
  rms_norm: { inputs: [of([2, 3, 8]), of([8])], f: (x, w) => sg.rmsNorm(x, w), tolerance: 1e-5 },
  rms_norm_backward: {
    inputs: [of([2, 3, 8]), of([8]), of([2, 3, 8])],
    f: (x, w, g) => slope((...t) => sg.rmsNorm(t[0], t[1]), g, [x, w]),
    tolerance: 2e-5,
  },
  rope: [
    { inputs: [of([2, 1, 2, 4]), ints([0, 3, 7, 1], [2, 2])], f: (x, at) => sg.rope(x, at), tolerance: 1e-5 },
    { inputs: [of([1, 2, 3, 4]), of([1, 3, 4]), of([1, 3, 4])], f: (x, cos, sin) => sg.applyRope(x, cos, sin) },
  ],
  sample: {
    inputs: [of([3, 7]), of([3]), ints([1, 5, 1, 0, 0, 0, 1, 0, 1, 3, 1, 0], [3, 4], "f32")],
    f: (logits, u, params) => sg.sample(logits, params, u.square()),
    noGradient: stepwise,
  },
  scatter_add: {
    inputs: [of([2, 2]), of([1, 3]), ints([1, 1, 0], [1, 3])],
    f: (x, y, at) => x.scatterAdd(1, at, y),
  },
  softmax: { inputs: [of(box)], f: (x) => [x.softmax(-1), x.softmax(1)], tolerance: 1e-5 },
  softmax_backward: { inputs: [of(box), of(box)], f: (x, g) => slope((t) => t.softmax(-1), g, [x]), tolerance: 1e-5 },
  topk: {
    inputs: [of(box)],
    f: (x) => {
      const { values, indices } = x.topk(2);
      return [values, indices];
    },
  },
  write_at: {
    inputs: [of([2, 1, 4, 2]), of([2, 1, 2, 2]), ints([1, 0])],
    f: (x, y, at) => sg.writeAt(x, y, at),
  },
  write_int8: { inputs: [of([2, 1, 2, 6]), ints([1, 0])], f: cache8, noGradient: rounded },
};

const all: Family["given"] & {} = Object.assign({}, given, ...families.map((f) => f.given));

/** Ops that no call makes alone, and where they are tested. */
export const elsewhere: Readonly<Record<string, string>> = {
  after: "tests/grad/autograd.test.ts",
  assign: "tests/engine/engine.test.ts",
  conv_weight_windows: "tests/ops/windows.test.ts", // what conv_weight and conv become
  conv_windows: "tests/ops/windows.test.ts",
  copy: "tests/engine/large.test.ts",
  leaf: "tests/ops/values.test.ts",
  lu: "tests/ops/table.test.ts", // within det, inverse and solve
  orthogonal_columns: "tests/ops/table.test.ts", // within svd
  pick: "tests/ops/table.test.ts", // in topk
  window: "tests/engine/large.test.ts",
};

const camelCase = (name: string): string => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** x.name(…) for an elementwise op that is a method of Tensor with as many operands. */
function methodSample(name: string): Sample | undefined {
  const method = (sg.Tensor.prototype as unknown as Record<string, (...x: sg.Tensor[]) => sg.Tensor>)[camelCase(name)];
  if (!method) return undefined;
  const inputs = Array.from({ length: method.length + 1 }, (_, i) => of(box, ...(domains[name]?.[i] ?? [-1, 1])));
  return {
    inputs,
    f: (x, ...others) => method.apply(x, others),
    noGradient: stepped.includes(name) || !allOps().get(name)!.vjp ? stepwise : undefined,
    broadcasts: inputs.length > 1,
    dtypes: every,
  };
}

/** Samples of the op; empty where it has none. */
export function samplesOf(name: string): readonly Sample[] {
  const found = all[name] ?? (allOps().get(name)?.kind === "elementwise" ? methodSample(name) : undefined) ?? [];
  return [found].flat();
}

/** Names that `given` has and the table has not. */
export const strayNames = (): string[] =>
  [...Object.keys(all), ...Object.keys(elsewhere)].filter((n) => !allOps().has(n));
