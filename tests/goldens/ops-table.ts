import * as sg from "../../src/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

export type Inputs = Record<string, Tensor>;
type Call = (x: Inputs, attrs: any) => Tensor | readonly Tensor[];

const unary =
  (f: (x: Tensor) => Tensor): Call =>
  ({ x }) =>
    f(x);
const binary =
  (f: (a: Tensor, b: Tensor) => Tensor): Call =>
  ({ a, b }) =>
    f(a, b);
const along =
  (f: (x: Tensor, dim: any, keepdim: boolean) => Tensor): Call =>
  ({ x }, { dim, keepdim }) =>
    f(x, dim, keepdim);
const extremum =
  (
    all: (x: Tensor) => Tensor,
    part: (x: Tensor, dim: number, keepdim: boolean) => { values: Tensor; indices: Tensor },
  ): Call =>
  ({ x }, { dim, keepdim }) => {
    if (dim === undefined) return all(x);
    const { values, indices } = part(x, dim, keepdim);
    return [values, indices];
  };
const joined =
  (f: (parts: Tensor[], dim: number) => Tensor): Call =>
  (x, { dim }) =>
    f(Object.values(x), dim);
/** x[name](...args), the method in camelCase: "log_softmax" is `logSoftmax`. */
const method = (x: Tensor, name: string, ...args: unknown[]): Tensor =>
  (x as unknown as Record<string, (...a: unknown[]) => Tensor>)[camelCase(name)](...args);

/** "keep_dim" → "keepDim". */
export const camelCase = (name: string): string => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** Options as the library spells them, the values as they are: what it does not know it must refuse or the case fails. */
const options = (attrs: Record<string, unknown>): any =>
  Object.fromEntries(Object.entries(attrs).map(([name, value]) => [camelCase(name), value]));

/** The file writes infinities as strings. */
const number = (value: number | string): number =>
  typeof value === "string" ? Number(value.replace("inf", "Infinity")) : value;
const pairOf = (x: { values: Tensor; indices: Tensor }): Tensor[] => [x.values, x.indices];

/** How each case is called: the only place that knows the names of the golden data. Attributes have torch's names. */
export const calls: Record<string, Call> = {
  abs: unary((x) => x.abs()),
  adaptive_avg_pool2d: ({ x }, { size }) => sg.adaptiveAvgPool2d(x, size),
  add: binary((a, b) => a.add(b)),
  amax: along((x, dim, keepdim) => x.amax(dim, keepdim)),
  argmax: along((x, dim, keepdim) => x.argmax(dim, keepdim)),
  avg_pool2d: ({ x }, { kernel, stride, padding }) => sg.avgPool2d(x, kernel, { stride, padding }),
  chunk: ({ x }, { chunks, dim }) => x.chunk(chunks, dim),
  clamp: ({ x }, { min, max }) => x.clamp({ min, max }),
  compare: ({ a, b }, { fn }) => method(a, fn, b),
  concat: joined(sg.cat),
  conv2d: ({ x, w, b }, options) => sg.conv2d(x, w, b, options),
  cos: unary((x) => x.cos()),
  cross_entropy: ({ x, target }, a) =>
    sg.crossEntropy(x, target, {
      ignoreIndex: a.ignore_index,
      labelSmoothing: a.label_smoothing,
      reduction: a.reduction,
    }),
  cumsum: ({ x }, { dim }) => x.cumsum(dim),
  div: binary((a, b) => a.div(b)),
  embedding: ({ ids, weight }) => sg.embedding(ids, weight),
  erf: unary((x) => x.erf()),
  exp: unary((x) => x.exp()),
  expand: ({ x }, { shape }) => x.expand(shape),
  flip_roll: ({ x }, { fn, dims, shift, dim }) => (fn === "flip" ? x.flip(dims) : x.roll(shift, dim)),
  floor_ceil_round: ({ x }, { fn }) => method(x, fn),
  gather: ({ x, index }, { dim }) => x.gather(dim, index),
  gelu_erf: unary((x) => x.gelu()),
  gelu_tanh: unary((x) => x.gelu({ approximate: "tanh" })),
  group_norm: ({ x, weight, bias }, { groups, eps }) => sg.groupNorm(x, groups, weight, bias, eps),
  index_add: ({ x, index, src }, { dim }) => x.indexAdd(dim, index, src),
  index_select: ({ x, index }, { dim }) => x.indexSelect(dim, index),
  interpolate: ({ x }, a) =>
    sg.interpolate(x, { size: a.size, mode: a.mode, alignCorners: a.align_corners, antialias: a.antialias }),
  layer_norm: ({ x, weight, bias }, { eps }) => sg.layerNorm(x, weight, bias, eps),
  linear: ({ x, w, b }) => sg.linear(x, w, b),
  log: unary((x) => x.log()),
  log_softmax: ({ x }, { dim }) => x.logSoftmax(dim),
  logsumexp: along((x, dim, keepdim) => x.logsumexp(dim, keepdim)),
  masked_fill: ({ x, mask }, { value }) => x.maskedFill(mask, value),
  matmul: ({ a, b }, { transpose_a, transpose_b }) =>
    (transpose_a ? a.transpose(-1, -2) : a).matmul(transpose_b ? b.transpose(-1, -2) : b),
  max: extremum(
    (x) => x.max(),
    (x, dim, keepdim) => x.max(dim, keepdim),
  ),
  max_pool2d: ({ x }, { kernel, stride, padding }) => sg.maxPool2d(x, kernel, { stride, padding }),
  maximum: binary((a, b) => a.maximum(b)),
  mean: along((x, dim, keepdim) => x.mean(dim, keepdim)),
  min: extremum(
    (x) => x.min(),
    (x, dim, keepdim) => x.min(dim, keepdim),
  ),
  minimum: binary((a, b) => a.minimum(b)),
  mse_loss: ({ x, y }, { reduction }) => sg.mseLoss(x, y, { reduction }),
  mul: binary((a, b) => a.mul(b)),
  neg: unary((x) => x.neg()),
  pad: ({ x }, { pads, value }) => x.pad(pads, value),
  permute: ({ x }, { dims }) => x.permute(dims),
  permute_reshape: ({ x }, { dims, shape }) => x.permute(dims).reshape(shape),
  pow: ({ x, b }, { exponent }) => x.pow(exponent ?? b),
  quick_gelu: unary((x) => x.quickGelu()),
  reciprocal: unary((x) => x.reciprocal()),
  relu: unary((x) => x.relu()),
  repeat_interleave: ({ x }, { repeats, dim }) => x.repeatInterleave(repeats, dim),
  rms_norm: ({ x, weight }, { eps }) => sg.rmsNorm(x, weight, eps),
  rope: ({ x, positions }, { theta }) => sg.rope(x, positions, { theta }),
  rope_apply: ({ x, cos, sin }) => sg.applyRope(x, cos, sin),
  rsqrt: unary((x) => x.rsqrt()),
  scatter_add: ({ x, index, src }, { dim }) => x.scatterAdd(dim, index, src),
  sdpa: ({ q, k, v, mask, bias }, { causal, align, scale }) =>
    sg.scaledDotProductAttention(q, k, v, { mask, bias, isCausal: causal, align, scale }),
  sigmoid: unary((x) => x.sigmoid()),
  silu: unary((x) => x.silu()),
  sin: unary((x) => x.sin()),
  slice: ({ x }, { slices }) => x.slice(slices),
  softmax: ({ x }, { dim }) => x.softmax(dim),
  softplus: unary((x) => x.softplus()),
  split: ({ x }, { sizes, dim }) => x.split(sizes, dim),
  sqrt: unary((x) => x.sqrt()),
  square: unary((x) => x.square()),
  stack: joined(sg.stack),
  sub: binary((a, b) => a.sub(b)),
  sum: along((x, dim, keepdim) => x.sum(dim, keepdim)),
  tanh: unary((x) => x.tanh()),
  topk: ({ x }, { k }) => {
    const { values, indices } = x.topk(k);
    return [values, indices];
  },
  tril_triu: ({ x }, { fn, diagonal }) => (fn === "tril" ? x.tril(diagonal) : x.triu(diagonal)),
  var: ({ x }, options) => x.var(options),
  where: ({ cond, a, b }) => sg.where(cond, a, b),

  // The second part of the golden data (goldens-torch).
  adaptive_avg_pool_ext: ({ x }, { size }) => sg.adaptiveAvgPool2d(x, size),
  amax_amin_grad: ({ x }, { fn, dim, keepdim }) => method(x, fn, dim, keepdim),
  arange: (_, { start, end, step, dtype }) => sg.arange(start, end, step, { dtype }),
  arg_special: ({ x }, { fn, dim, keepdim }) => method(x, fn, dim, keepdim),
  avg_pool_ext: ({ x }, { kernel, ...attrs }) => sg.avgPool2d(x, kernel, options(attrs)),
  clamp_ext: ({ x, a, b }, { min, max }) => x.clamp({ min: min ?? a, max: max ?? b }),
  compare_special: ({ a, b }, { fn }) => method(a, fn, b),
  conv2d_ext: ({ x, w, b }, attrs) => sg.conv2d(x, w, b, options(attrs)),
  cross_entropy_ext: ({ x, target, weight }, attrs) => sg.crossEntropy(x, target, { weight, ...options(attrs) }),
  cumsum_ext: ({ x }, { dim }) => x.cumsum(dim),
  div_mode: ({ a, b }, attrs) => method(a, "div", b, options(attrs)),
  embedding_ext: ({ ids, weight }, attrs) => (sg.embedding as any)(ids, weight, options(attrs)),
  extremum_special: ({ a, b }, { fn }) => method(a, fn, b),
  eye: (_, { n, m }) => (sg.eye as any)(n, m),
  flatten: ({ x }, { start_dim, end_dim }) => x.flatten(start_dim, end_dim),
  gather_ext: ({ x, index }, { dim }) => x.gather(dim, index),
  group_norm_ext: ({ x, weight, bias }, { groups, eps }) => sg.groupNorm(x, groups, weight, bias, eps),
  interpolate_ext: ({ x }, attrs) => sg.interpolate(x, options(attrs)),
  layer_norm_ext: ({ x, weight, bias }, { eps }) => sg.layerNorm(x, weight, bias, eps),
  logical: ({ a, b }, { fn }) => method(a, fn, b),
  logical_not: unary((x) => x.logicalNot()),
  logsumexp_ext: along((x, dim, keepdim) => x.logsumexp(dim, keepdim)),
  masked_fill_ext: ({ x, mask }, { value }) => x.maskedFill(mask, number(value)),
  matmul_shapes: binary((a, b) => a.matmul(b)),
  max_min_special: ({ x }, { fn, dim, keepdim }) => pairOf(method(x, fn, dim, keepdim) as any),
  max_pool2d_indices: ({ x }, { kernel, ...attrs }) =>
    pairOf((sg.maxPool2d as any)(x, kernel, { ...options(attrs), returnIndices: true })),
  mse_loss_ext: ({ x, y }, { reduction }) => sg.mseLoss(x, y, { reduction }),
  narrow: ({ x }, { dim, start, length }) => x.narrow(dim, start, length),
  pow_special: ({ x, b }, { exponent }) => x.pow(exponent ?? b),
  prod: along((x, dim, keepdim) => x.prod(dim, keepdim)),
  promotion: ({ a, b }, { fn }) => method(a, fn, b),
  reduce_ints: ({ x }, { fn, dim }) => method(x, fn, dim),
  reduce_special: ({ x }, { fn, dim }) => (fn === "var" ? x.var({ dim, correction: 0 }) : method(x, fn, dim)),
  repeat_interleave_ext: ({ x, repeats }, attrs) => method(x, "repeat_interleave", repeats ?? attrs.repeats, attrs.dim),
  roll_flip_ext: ({ x }, { fn, shifts, dims }) => (fn === "roll" ? x.roll(shifts, dims) : method(x, fn)),
  select: ({ x }, { dim, index }) => x.select(dim, index),
  sign: unary((x) => x.sign()),
  softmax_special: ({ x }, { fn, dim }) => method(x, fn, dim),
  squeeze: ({ x }, { dim }) => x.squeeze(dim),
  swapaxes: ({ x }, { dim0, dim1 }) => x.transpose(dim0, dim1),
  tensor_unfold: ({ x }, { dim, size, step }) => x.unfold(dim, size, step),
  topk_ext: ({ x }, { k, ...attrs }) => pairOf((x.topk as any).call(x, k, options(attrs))),
  transpose_T: ({ x }, { fn }) => (fn === "t" ? x.t() : (x as any)[fn]),
  tril_triu_batch: ({ x }, { fn, diagonal }) => method(x, fn, diagonal),
  unary_special: ({ x }, { fn }) => method(x, fn),
  unsqueeze: ({ x }, { dim }) => x.unsqueeze(dim),
  where_special: ({ cond, a, b }) => sg.where(cond, a, b),
};
