/// <reference lib="esnext.disposable" preserve="true" />

import { buildNode, buildNodes } from "../graph/build.ts";
import { connectTensors } from "../graph/compose.ts";
import { type DType, type HostArray, isFloat } from "../graph/dtype.ts";
import type { Attrs, Node, OutputSpec } from "../graph/node.ts";
import type { Op } from "../graph/op.ts";
import { noteScalar } from "../graph/pending.ts";
import type { Shape } from "../graph/shape.ts";
import { listOf, type Numbers, numel, show } from "../graph/shape.ts";
import * as ew from "../ops/elementwise.ts";
import * as index from "../ops/indexing.ts";
import { matmul } from "../ops/matmul.ts";
import * as move from "../ops/movement.ts";
import * as red from "../ops/reduce.ts";
import { divide, type RoundingMode } from "../ops/rounding.ts";
import { cumsum } from "../ops/scan.ts";
import { logSoftmax, softmax } from "../ops/softmax.ts";
import * as un from "../ops/unary.ts";
import { read, release } from "../runtime/engine.ts";
import { backward, detach, isLeafNode, setOwner } from "./autograd.ts";

type Operand = Tensor | number;
export type Nested = number | Nested[];

/**
 * A value of the lazy graph. Methods build nodes and compute nothing. `data()`, `item()` and `tolist()` compute.
 * A value never changes, unless it is a leaf that an optimizer or a cache assigns.
 * Every method checks shapes and dtypes at the call, and throws an error that names the op, the shapes and what it expects.
 */
// biome-ignore format: one method a line reads as a table
export class Tensor {
  #node: Node;
  /** Gradient that `backward` accumulates. Null at first; set it to null before the next accumulation. */
  grad: Tensor | null = null;

  /** @internal */
  constructor(node: Node) {
    this.#node = node;
  }

  /** @internal */
  get node(): Node {
    return this.#node;
  }
  /** Set by in-place assignment: the tensor stays the same leaf, with the same owner of gradients. @internal */
  set node(node: Node) {
    this.#node = node;
    if (node.requiresGrad) setOwner(node, this);
  }
  /** Sizes of all dims; [] for a scalar. */
  get shape(): Shape {
    return this.#node.shape;
  }
  /** Element type: f32, f16, i32, u32 or bool. */
  get dtype(): DType {
    return this.#node.dtype;
  }
  /** Number of dims. */
  get ndim(): number {
    return this.#node.shape.length;
  }
  /** Number of elements. */
  get numel(): number {
    return numel(this.#node.shape);
  }
  /** Bytes of the elements on the device: 2 per f16, 4 per element of every other dtype. */
  get nbytes(): number {
    return this.numel * (this.dtype === "f16" ? 2 : 4);
  }
  /** Values given to `tensor(...)`. Undefined for a computed tensor. Never waits for the device. */
  get hostData(): HostArray | undefined {
    const { op, host } = this.#node;
    return op.name === "leaf" ? (host as HostArray | undefined) : undefined;
  }
  /** Whether `backward` computes a gradient for this value. */
  get requiresGrad(): boolean {
    return this.#node.requiresGrad;
  }

  /** Row-major values, computed now if they are pending. f16 is read as f32, bool as 0 and 1. */
  data(): Promise<HostArray> {
    return read(this.#node);
  }
  /** The value of a tensor of one element: `await loss.item()`. */
  async item(): Promise<number> {
    if (this.numel !== 1) throw new Error(`item: ${show(this.shape)} has ${this.numel} elements, not one: use data() or tolist()`);
    return (await this.data())[0];
  }
  /** The values as nested arrays: a [2, 3] tensor gives two arrays of three numbers. */
  async tolist(): Promise<Nested> {
    return nest(await this.data(), this.shape);
  }
  /** Keeps this value readable after the next flush, even if that flush overwrites its inputs in place. */
  keep(): this {
    noteScalar(this.#node);
    return this;
  }

  /** Frees the GPU memory of a computed value at the end of a `using` block. Optional: garbage collection does it too. */
  [Symbol.dispose](): void {
    release(this.#node);
  }

  /**
   * Adds the gradients of this value to `.grad` of every leaf that requires one. They are lazy, as all values are.
   * @param gradient of this value, in its shape; required unless this has one element (then it is 1)
   * @param options createGraph: record the gradients' own graph, for second derivatives
   */
  backward(gradient?: Tensor, options?: { createGraph?: boolean }): void {
    backward(this, gradient, options);
  }
  /** Makes this tensor a leaf that collects gradients, or with `false` stops it. @throws if it is not float, or not a leaf. */
  requiresGrad_(on = true): this {
    if (on && !isFloat(this.dtype)) throw new TypeError(`requiresGrad: only float tensors have gradients, this is ${this.dtype}: cast it to a float dtype first`);
    if (on && !this.requiresGrad) setOwner(this.#node, this);
    else if (!on && this.requiresGrad && !isLeafNode(this.#node)) throw new Error("requiresGrad_(false): not a leaf; use detach()");
    this.#node.requiresGrad = on;
    return this;
  }
  /** The same value without its graph: gradients stop here. */
  detach(): Tensor {
    return detach(this);
  }
  /** The same value as a tensor of its own, with the same gradient. */
  clone(): Tensor {
    return alias(this);
  }

  /** The same values in another dtype; this tensor if it has that dtype. Float to integer truncates. */
  to(dtype: DType): Tensor { return ew.cast(this, dtype); }
  /** As f32. */
  float(): Tensor { return ew.cast(this, "f32"); }
  /** As f16. */
  half(): Tensor { return ew.cast(this, "f16"); }
  /** As i32. */
  int(): Tensor { return ew.cast(this, "i32"); }

  // Elementwise. Operands broadcast; a number takes the dtype of the tensor where it can. Functions of floats cast integers to f32.
  /** this + b. */
  add(b: Operand): Tensor { return ew.add(this, b); }
  /** this - b. */
  sub(b: Operand): Tensor { return ew.sub(this, b); }
  /** this * b. */
  mul(b: Operand): Tensor { return ew.mul(this, b); }
  /** this / b. Integers become f32, unless `roundingMode` ("trunc", "floor") rounds the quotient; its gradient is 0 then. */
  div(b: Operand, options: { roundingMode?: RoundingMode | null } = {}): Tensor { return divide(this, b, options); }
  /** this to the power b. Integers become f32, except for exponents 1, 2 and 3. */
  pow(b: Operand): Tensor { return un.power(this, b); }
  /** Remainder with the sign of the divisor. */
  mod(b: Operand): Tensor { return ew.mod(this, b); }
  /** The larger of this and b. Ties share the gradient. */
  maximum(b: Operand): Tensor { return ew.maximum(this, b); }
  /** The smaller of this and b. Ties share the gradient. */
  minimum(b: Operand): Tensor { return ew.minimum(this, b); }
  /** -this. */
  neg(): Tensor { return un.neg(this); }
  /** Absolute value. */
  abs(): Tensor { return un.abs(this); }
  /** -1, 0 or 1. Its gradient is 0. */
  sign(): Tensor { return un.sign(this); }
  /** Largest integer <= this. Its gradient is 0. */
  floor(): Tensor { return un.floor(this); }
  /** Smallest integer >= this. Its gradient is 0. */
  ceil(): Tensor { return un.ceil(this); }
  /** Rounds half to even. Its gradient is 0. */
  round(): Tensor { return un.round(this); }
  /** e to the power this. */
  exp(): Tensor { return un.exp(this); }
  /** Natural logarithm. */
  log(): Tensor { return un.log(this); }
  /** Square root. */
  sqrt(): Tensor { return un.sqrt(this); }
  /** 1 / sqrt(this). */
  rsqrt(): Tensor { return un.rsqrt(this); }
  /** 1 / this. */
  reciprocal(): Tensor { return un.reciprocal(this); }
  /** this * this. */
  square(): Tensor { return un.square(this); }
  /** Sine of radians. */
  sin(): Tensor { return un.sin(this); }
  /** Cosine of radians. */
  cos(): Tensor { return un.cos(this); }
  /** Hyperbolic tangent. */
  tanh(): Tensor { return un.tanh(this); }
  /** 1 / (1 + exp(-this)). */
  sigmoid(): Tensor { return un.sigmoid(this); }
  /** Error function. */
  erf(): Tensor { return un.erf(this); }
  /** max(this, 0). */
  relu(): Tensor { return un.relu(this); }
  /** this * Φ(this), exact or by the tanh approximation (https://arxiv.org/abs/1606.08415). */
  gelu({ approximate = "none" }: { approximate?: "none" | "tanh" } = {}): Tensor { return approximate === "tanh" ? un.geluTanh(this) : un.gelu(this); }
  /** this * sigmoid(this). */
  silu(): Tensor { return un.silu(this); }
  /** this * sigmoid(1.702 this), the activation of CLIP. */
  quickGelu(): Tensor { return un.quickGelu(this); }
  /** log(1 + exp(this)), without overflow. */
  softplus(): Tensor { return un.softplus(this); }
  /** Limits values to [min, max], numbers or tensors: `x.clamp({ min: 0 })`. NaN stays. The gradient is 0 outside. */
  clamp(limits: { min?: Operand; max?: Operand }): Tensor { return un.clamp(this, limits); }
  /** bool: this == b. */
  eq(b: Operand): Tensor { return ew.eq(this, b); }
  /** bool: this != b. */
  ne(b: Operand): Tensor { return ew.ne(this, b); }
  /** bool: this < b. */
  lt(b: Operand): Tensor { return ew.lt(this, b); }
  /** bool: this <= b. */
  le(b: Operand): Tensor { return ew.le(this, b); }
  /** bool: this > b. */
  gt(b: Operand): Tensor { return ew.gt(this, b); }
  /** bool: this >= b. */
  ge(b: Operand): Tensor { return ew.ge(this, b); }
  /** bool: not this. Numbers are true unless 0. */
  logicalNot(): Tensor { return ew.logicalNot(this); }
  /** bool: this and b. */
  logicalAnd(b: Tensor): Tensor { return ew.logicalAnd(this, b); }
  /** bool: this or b. */
  logicalOr(b: Tensor): Tensor { return ew.logicalOr(this, b); }
  /** `value` where `mask`, else this. The dtype stays if it can hold the value; 0 and 1 fit booleans. */
  maskedFill(mask: Tensor, value: number): Tensor { return ew.maskedFill(this, mask, value); }
  /** This where `cond`, else `other`. All three broadcast. */
  where(cond: Tensor, other: Operand): Tensor { return ew.where(cond, this, other); }

  // Movement. These are views: kernels read through their index maps, so most copy nothing.
  /** The same elements in row-major order: `x.reshape(2, -1)` or `x.reshape([2, -1])`. One size may be -1: it follows from the others. */
  reshape(...sizes: Numbers): Tensor { return move.reshape(this, listOf(sizes)); }
  /** As `reshape`. It never fails for strided tensors, as torch's `view` does. */
  view(...sizes: Numbers): Tensor { return move.reshape(this, listOf(sizes)); }
  /** Reorders dims: dim i of the result is dim dims[i]. `x.permute(0, 2, 1)` or `x.permute([0, 2, 1])` */
  permute(...dims: Numbers): Tensor { return move.permute(this, listOf(dims)); }
  /** Swaps dims a and b. */
  transpose(a: number, b: number): Tensor { return move.transpose(this, a, b); }
  /** Transpose of a matrix; a vector or scalar as is. @throws if there are more dims. */
  t(): Tensor { return move.matrixTranspose(this); }
  /** Broadcasts to sizes: `x.expand(3, -1)` or `x.expand([3, -1])`. -1 keeps a size; new dims come first. */
  expand(...sizes: Numbers): Tensor { return move.expandTo(this, listOf(sizes)); }
  /** Inserts a dim of size 1 before `dim`. */
  unsqueeze(dim: number): Tensor { return move.unsqueeze(this, dim); }
  /** Drops `dim` if its size is 1; without `dim`, every dim of size 1. */
  squeeze(dim?: number): Tensor { return move.squeeze(this, dim); }
  /** Joins dims `start` to `end` (inclusive) into one. */
  flatten(start = 0, end = -1): Tensor { return move.flatten(this, start, end); }
  /** [start, stop, step] per dim; negative counts from the end, null is open. `x.slice([[1, -1], [null, null, 2]])`. Mixed with numbers and tensors: `at`. */
  slice(spec: move.SliceSpec): Tensor { return move.slice(this, spec); }
  /** Elements `start` to `start + length - 1` of one dim. */
  narrow(dim: number, start: number, length: number): Tensor { return move.narrow(this, dim, start, length); }
  /** Element `i` of one dim, which is dropped. Negative counts from the end. */
  select(dim: number, i: number): Tensor { return move.select(this, dim, i); }
  /** Reverses the order of elements along dims: `x.flip(0, 1)` or `x.flip([0, 1])`. */
  flip(...dims: Numbers): Tensor { return move.flip(this, listOf(dims)); }
  /** Constant padding: [before, after] per dim. Negative amounts crop. `x.pad([[0, 0], [1, 1]])`; for other modes see the function `pad`. */
  pad(pads: readonly (readonly [number, number])[], value = 0): Tensor { return move.pad(this, pads, value); }
  /** Sliding windows of `dim` as a new last dim: [..., n, ...] -> [..., windows, ..., size]. */
  unfold(dim: number, size: number, step: number, dilation = 1): Tensor { return move.unfold(this, dim, size, step, dilation); }
  /** Parts of the given sizes, or all of one size (the last may be smaller). */
  split(sizes: number | readonly number[], dim = 0): Tensor[] { return move.split(this, sizes, dim); }
  /** At most n parts of equal size (the last may be smaller). */
  chunk(n: number, dim = 0): Tensor[] { return move.chunk(this, n, dim); }
  /** Zeroes elements above a diagonal of the last two dims; 0 is the main diagonal. */
  tril(diagonal = 0): Tensor { return index.triangle(this, diagonal, "lower"); }
  /** Zeroes elements below a diagonal of the last two dims; 0 is the main diagonal. */
  triu(diagonal = 0): Tensor { return index.triangle(this, diagonal, "upper"); }

  // Reductions. `dim` is one dim, several, or all if absent. Reduced dims are dropped, or keep size 1 with `keepdim`.
  /** Sum. Integers and booleans are summed as i32. */
  sum(dim?: red.Dim, keepdim = false): Tensor { return red.sum(this, dim, keepdim); }
  /** Mean. Integers and booleans give f32. */
  mean(dim?: red.Dim, keepdim = false): Tensor { return red.mean(this, dim, keepdim); }
  /** Largest element. Ties share the gradient. */
  amax(dim?: red.Dim, keepdim = false): Tensor { return red.amax(this, dim, keepdim); }
  /** Smallest element. Ties share the gradient. */
  amin(dim?: red.Dim, keepdim = false): Tensor { return red.amin(this, dim, keepdim); }
  /** Product. */
  prod(dim?: red.Dim, keepdim = false): Tensor { return red.prod(this, dim, keepdim); }
  /** Largest element of all. */
  max(): Tensor;
  /** Largest elements along `dim` and their i32 positions. The gradient goes to these elements. */
  max(dim: number, keepdim?: boolean): red.Extremum;
  max(dim?: number, keepdim = false): Tensor | red.Extremum { return dim === undefined ? red.amax(this) : red.maxAlong(this, dim, keepdim); }
  /** Smallest element of all. */
  min(): Tensor;
  /** Smallest elements along `dim` and their i32 positions. The gradient goes to these elements. */
  min(dim: number, keepdim?: boolean): red.Extremum;
  min(dim?: number, keepdim = false): Tensor | red.Extremum { return dim === undefined ? red.amin(this) : red.minAlong(this, dim, keepdim); }
  /** i32 position of the first largest element along `dim`; without it, in the flattened tensor. */
  argmax(dim?: number, keepdim = false): Tensor { return red.argmax(this, dim, keepdim); }
  /** As `argmax`, of the first smallest element. */
  argmin(dim?: number, keepdim = false): Tensor { return red.argmin(this, dim, keepdim); }
  /** Variance, divided by n - correction (default 1). */
  var(options: { dim?: red.Dim; correction?: number; keepdim?: boolean } = {}): Tensor { return red.variance(this, options); }
  /** log(sum(exp(this))), without overflow. */
  logsumexp(dim: red.Dim, keepdim = false): Tensor { return red.logsumexp(this, dim, keepdim); }
  /** Running sum along `dim`. Integers and booleans are summed as i32. */
  cumsum(dim: number): Tensor { return cumsum(this, dim); }
  /** exp(this) / sum(exp(this)) along `dim`. */
  softmax(dim: number): Tensor { return softmax(this, dim); }
  /** log(softmax(this)) along `dim`, without overflow. */
  logSoftmax(dim: number): Tensor { return logSoftmax(this, dim); }

  /** Matrix product [..., M, K] x [..., K, N] -> [..., M, N]. Batch dims broadcast; a 1-D operand is a row or column. */
  matmul(b: Tensor): Tensor { return matmul(this, b); }

  // Indexing by integer tensors. Positions on the host are checked; those on the GPU are not read back.
  /** out[i][j] = this[i][at[i][j]] (for dim 1). `at` has equal rank, and no other dim is larger. */
  gather(dim: number, at: Tensor): Tensor { return index.gather(this, dim, at); }
  /** The slices of `dim` at 1-D positions `at`. Positions may repeat. */
  indexSelect(dim: number, at: Tensor): Tensor { return index.indexSelect(this, dim, at); }
  /** This plus the slices of `source`, added at 1-D positions `at` of `dim`. Repeated positions accumulate. */
  indexAdd(dim: number, at: Tensor, source: Tensor): Tensor { return index.indexAdd(this, dim, at, source); }
  /** This plus the elements of `source`, added at positions `at` along `dim`: the transpose of `gather`. */
  scatterAdd(dim: number, at: Tensor, source: Tensor): Tensor { return index.scatterAdd(this, dim, at, source); }
}

connectTensors((node) => new Tensor(node));

/** Builds the node of an op with one output. Every op enters the graph here or in `applyMany`. */
export const apply = (op: Op, x: readonly Tensor[], attrs: Attrs, shape: Shape, dtype: DType): Tensor =>
  new Tensor(
    buildNode(
      op,
      x.map((t) => t.node),
      attrs,
      shape,
      dtype,
    ),
  );

/** Builds the node of an op with several outputs, and returns one tensor per output. */
export const applyMany = (op: Op, x: readonly Tensor[], attrs: Attrs, outputs: readonly OutputSpec[]): Tensor[] =>
  buildNodes(
    op,
    x.map((t) => t.node),
    attrs,
    outputs,
  ).map((node) => new Tensor(node));

/** The same value as a new node: a reshape to its own shape. */
export const alias = (x: Tensor): Tensor => apply(move.reshapeOp, [x], {}, x.shape, x.dtype);

/** The row-major values of dims from `depth` on as nested arrays. */
function nest(data: HostArray, shape: Shape, depth = 0, start = 0): Nested {
  if (depth === shape.length) return data[start];
  const stride = shape.slice(depth + 1).reduce((n, d) => n * d, 1);
  return Array.from({ length: shape[depth] }, (_, i) => nest(data, shape, depth + 1, start + i * stride));
}
