import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/functional.ts";
import type { DType } from "../../src/graph/dtype.ts";
import type { TensorFiles } from "../../src/io/tensors.ts";
import { flush, init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { listCases, mismatch, openCase, type Tolerance } from "./cases.ts";

type Inputs = Record<string, Tensor>;
type Call = (x: Inputs, attrs: any) => Tensor | readonly Tensor[];

interface Variant {
  readonly name: string;
  readonly attrs: any;
  readonly inputs: Record<string, { shape: number[]; dtype: string }>;
  readonly outputs: Record<string, unknown>;
  readonly grads: string[];
  readonly tol: { out: Tolerance; grad?: Tolerance };
}

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
const method = (x: Tensor, name: string, ...args: Tensor[]): Tensor =>
  (x as unknown as Record<string, (...a: Tensor[]) => Tensor>)[name](...args);

/** How each case is called: the only place that knows the names of the golden data. */
const calls: Record<string, Call> = {
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
};

const dtypes: Record<string, DType> = { f32: "f32", i32: "i32", u8: "bool" };

async function read(file: TensorFiles, name: string, dtype = "f32"): Promise<Tensor> {
  const { data, shape } = await file.read(name);
  return sg.tensor(data, { shape, dtype: dtypes[dtype] });
}

/** Everything wrong with one variant; empty when forward and gradients are within tolerance. */
async function check(call: Call, file: TensorFiles, v: Variant): Promise<string[]> {
  const inputs: Inputs = {};
  for (const [name, { dtype }] of Object.entries(v.inputs)) {
    inputs[name] = await read(file, `${v.name}/in.${name}`, dtype);
    if (v.grads.includes(name)) inputs[name].requiresGrad_();
  }
  const outputs = [call(inputs, v.attrs)].flat();
  const names = Object.keys(v.outputs);
  if (outputs.length !== names.length) return [`${v.name}: ${outputs.length} outputs, expected ${names.length}`];
  for (const [i, name] of names.entries()) {
    const gout = `${v.name}/${name.replace("out", "gout")}`;
    if (v.grads.length > 0 && file.names.includes(gout)) outputs[i].backward(await read(file, gout));
  }
  const results = [
    ...names.map((name, i) => ({ name, got: outputs[i] as Tensor | null, tol: v.tol.out })),
    ...v.grads.map((name) => ({ name: `grad.${name}`, got: inputs[name].grad, tol: v.tol.grad! })),
  ];
  await flush(results.flatMap(({ got }) => (got ? [got.node] : []))); // one plan for all
  const problems: string[] = [];
  for (const { name, got, tol } of results) {
    const want = await file.read(`${v.name}/${name}`);
    const sized = got && got.shape.join() === want.shape.join();
    const problem = sized
      ? mismatch(await got.data(), want.data, tol)
      : `shape [${got?.shape}], expected [${want.shape}]`;
    if (problem) problems.push(`${v.name} ${name}: ${problem}`);
  }
  return problems;
}

const cases = listCases("ops");
const backends = process.env.SHADEGRAD_BACKEND ? [process.env.SHADEGRAD_BACKEND] : ["reference", "webgpu"];

test("there are golden ops", () => expect(cases.length).toBeGreaterThan(0));

describe.each(backends)("golden ops on %s", (backend) => {
  beforeAll(async () => void (await init({ backend: backend as "reference" | "webgpu" })));

  test.each(cases)("$name", async ({ name, path, json }) => {
    const call = calls[name];
    if (!call) throw new Error(`unknown kind of case: ops/${name}`);
    const file = await openCase(path, "data");
    const problems: string[] = [];
    for (const variant of json.variants as Variant[]) problems.push(...(await check(call, file, variant)));
    expect(problems).toEqual([]);
  });
});
