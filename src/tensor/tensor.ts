/// <reference lib="esnext.disposable" preserve="true" />

import { buildNode, buildNodes } from "../graph/build.ts";
import { connectTensors } from "../graph/compose.ts";
import { type DType, type HostArray, isFloat } from "../graph/dtype.ts";
import type { Attrs, Node, OutputSpec } from "../graph/node.ts";
import type { Op } from "../graph/op.ts";
import { noteScalar } from "../graph/pending.ts";
import type { Shape } from "../graph/shape.ts";
import { numel, show } from "../graph/shape.ts";
import * as ew from "../ops/elementwise.ts";
import * as index from "../ops/indexing.ts";
import { matmul } from "../ops/matmul.ts";
import * as move from "../ops/movement.ts";
import * as red from "../ops/reduce.ts";
import { cumsum } from "../ops/scan.ts";
import { logSoftmax, softmax } from "../ops/softmax.ts";
import { topk } from "../ops/topk.ts";
import * as un from "../ops/unary.ts";
import { read, release } from "../runtime/engine.ts";
import { backward, detach, isLeafNode, setOwner } from "./autograd.ts";

type Operand = Tensor | number;
export type Nested = number | Nested[];

/**
 * A value of the lazy graph. Operations build nodes and compute nothing; `data()`, `item()` and `tolist()` do.
 * Values never change, except those of a leaf that an optimizer or a cache assigns.
 */
// biome-ignore format: one method a line reads as a table
export class Tensor {
  #node: Node;
  /** Gradient accumulated by `backward`; set it to null to start afresh. */
  grad: Tensor | null = null;

  /** @internal */
  constructor(node: Node) {
    this.#node = node;
  }

  /** @internal */
  get node(): Node {
    return this.#node;
  }
  /** Set by in-place assignment: the tensor stays the same leaf. @internal */
  set node(node: Node) {
    this.#node = node;
    if (node.requiresGrad) setOwner(node, this);
  }
  get shape(): Shape {
    return this.#node.shape;
  }
  get dtype(): DType {
    return this.#node.dtype;
  }
  get ndim(): number {
    return this.#node.shape.length;
  }
  get numel(): number {
    return numel(this.#node.shape);
  }
  /** Bytes of its elements on the device: 2 each for f16, 4 each for every other dtype. */
  get nbytes(): number {
    return this.numel * (this.dtype === "f16" ? 2 : 4);
  }
  /** The values of a tensor made from host data by `tensor(...)`; undefined for a computed one. Never waits for the device. */
  get hostData(): HostArray | undefined {
    const { op, host } = this.#node;
    return op.name === "leaf" ? (host as HostArray | undefined) : undefined;
  }
  get requiresGrad(): boolean {
    return this.#node.requiresGrad;
  }

  /** Row-major values, computed now if they are pending. f16 is widened to f32, bool is 0 and 1. */
  data(): Promise<HostArray> {
    return read(this.#node);
  }
  /** The value of a tensor of one element. */
  async item(): Promise<number> {
    if (this.numel !== 1) throw new Error(`item: ${show(this.shape)} has ${this.numel} elements, not one`);
    return (await this.data())[0];
  }
  async tolist(): Promise<Nested> {
    return nest(await this.data(), this.shape);
  }
  /** Keeps this value readable after the next flush, even if that flush overwrites its inputs in place. */
  keep(): this {
    noteScalar(this.#node);
    return this;
  }

  /** Gives the GPU memory of a computed value back at the end of a `using` block. Never needed. */
  [Symbol.dispose](): void {
    release(this.#node);
  }

  /** Adds gradients to `.grad` of every leaf; `gradient` is needed unless this has one element. */
  backward(gradient?: Tensor, options?: { createGraph?: boolean }): void {
    backward(this, gradient, options);
  }
  /** Makes this tensor a leaf that collects gradients. */
  requiresGrad_(on = true): this {
    if (on && !isFloat(this.dtype)) throw new TypeError(`requiresGrad: only float tensors have gradients, this is ${this.dtype}`);
    if (on && !this.requiresGrad) setOwner(this.#node, this);
    else if (!on && this.requiresGrad && !isLeafNode(this.#node)) throw new Error("requiresGrad_(false): not a leaf; use detach()");
    this.#node.requiresGrad = on;
    return this;
  }
  /** The same value, without history. */
  detach(): Tensor {
    return detach(this);
  }
  clone(): Tensor {
    return alias(this);
  }

  to(dtype: DType): Tensor { return ew.cast(this, dtype); }
  float(): Tensor { return ew.cast(this, "f32"); }
  half(): Tensor { return ew.cast(this, "f16"); }
  int(): Tensor { return ew.cast(this, "i32"); }

  // Elementwise, with broadcasting
  add(b: Operand): Tensor { return ew.add(this, b); }
  sub(b: Operand): Tensor { return ew.sub(this, b); }
  mul(b: Operand): Tensor { return ew.mul(this, b); }
  div(b: Operand): Tensor { return ew.div(this, b); }
  pow(b: Operand): Tensor { return un.power(this, b); }
  /** Remainder with the sign of the divisor. */
  mod(b: Operand): Tensor { return ew.mod(this, b); }
  maximum(b: Operand): Tensor { return ew.maximum(this, b); }
  minimum(b: Operand): Tensor { return ew.minimum(this, b); }
  neg(): Tensor { return un.neg(this); }
  abs(): Tensor { return un.abs(this); }
  sign(): Tensor { return un.sign(this); }
  floor(): Tensor { return un.floor(this); }
  ceil(): Tensor { return un.ceil(this); }
  /** Half to even. */
  round(): Tensor { return un.round(this); }
  exp(): Tensor { return un.exp(this); }
  log(): Tensor { return un.log(this); }
  sqrt(): Tensor { return un.sqrt(this); }
  rsqrt(): Tensor { return un.rsqrt(this); }
  reciprocal(): Tensor { return un.reciprocal(this); }
  square(): Tensor { return un.square(this); }
  sin(): Tensor { return un.sin(this); }
  cos(): Tensor { return un.cos(this); }
  tanh(): Tensor { return un.tanh(this); }
  sigmoid(): Tensor { return un.sigmoid(this); }
  erf(): Tensor { return un.erf(this); }
  relu(): Tensor { return un.relu(this); }
  gelu({ approximate = "none" }: { approximate?: "none" | "tanh" } = {}): Tensor { return approximate === "tanh" ? un.geluTanh(this) : un.gelu(this); }
  silu(): Tensor { return un.silu(this); }
  quickGelu(): Tensor { return un.quickGelu(this); }
  softplus(): Tensor { return un.softplus(this); }
  clamp(limits: { min?: number; max?: number }): Tensor { return un.clamp(this, limits); }
  eq(b: Operand): Tensor { return ew.eq(this, b); }
  ne(b: Operand): Tensor { return ew.ne(this, b); }
  lt(b: Operand): Tensor { return ew.lt(this, b); }
  le(b: Operand): Tensor { return ew.le(this, b); }
  gt(b: Operand): Tensor { return ew.gt(this, b); }
  ge(b: Operand): Tensor { return ew.ge(this, b); }
  logicalNot(): Tensor { return ew.logicalNot(this); }
  logicalAnd(b: Tensor): Tensor { return ew.logicalAnd(this, b); }
  logicalOr(b: Tensor): Tensor { return ew.logicalOr(this, b); }
  /** `value` where `mask`. The dtype stays if it can hold the value (0 and 1 in booleans); else as in `where`. */
  maskedFill(mask: Tensor, value: number): Tensor { return ew.maskedFill(this, mask, value); }
  /** This where `cond`, else `other`. */
  where(cond: Tensor, other: Operand): Tensor { return ew.where(cond, this, other); }

  // Movement: views, which cost no copy where an index map can carry them
  /** One size may be -1. */
  reshape(shape: Shape): Tensor { return move.reshape(this, shape); }
  view(shape: Shape): Tensor { return move.reshape(this, shape); }
  permute(dims: readonly number[]): Tensor { return move.permute(this, dims); }
  transpose(a: number, b: number): Tensor { return move.transpose(this, a, b); }
  /** Transpose of a matrix. */
  t(): Tensor { return move.transpose(this, 0, 1); }
  /** -1 keeps a size; new dims come first. */
  expand(shape: Shape): Tensor { return move.expand(this, shape); }
  unsqueeze(dim: number): Tensor { return move.unsqueeze(this, dim); }
  squeeze(dim?: number): Tensor { return move.squeeze(this, dim); }
  flatten(start = 0, end = -1): Tensor { return move.flatten(this, start, end); }
  /** One [start, stop, step] a dim; negative counts from the end, null is open. */
  slice(spec: move.SliceSpec): Tensor { return move.slice(this, spec); }
  narrow(dim: number, start: number, length: number): Tensor { return move.narrow(this, dim, start, length); }
  select(dim: number, i: number): Tensor { return move.select(this, dim, i); }
  flip(dims: number | readonly number[]): Tensor { return move.flip(this, dims); }
  roll(shift: number, dim: number): Tensor { return move.roll(this, shift, dim); }
  /** [before, after] of every dim; negative amounts crop. */
  pad(pads: readonly (readonly [number, number])[], value = 0): Tensor { return move.pad(this, pads, value); }
  /** Sliding windows of `dim` as a new last dim. */
  unfold(dim: number, size: number, step: number, dilation = 1): Tensor { return move.unfold(this, dim, size, step, dilation); }
  split(sizes: number | readonly number[], dim = 0): Tensor[] { return move.split(this, sizes, dim); }
  chunk(n: number, dim = 0): Tensor[] { return move.chunk(this, n, dim); }
  repeatInterleave(n: number, dim: number): Tensor { return move.repeatInterleave(this, n, dim); }
  tril(diagonal = 0): Tensor { return index.triangle(this, diagonal, "lower"); }
  triu(diagonal = 0): Tensor { return index.triangle(this, diagonal, "upper"); }

  // Reductions
  sum(dim?: red.Dim, keepdim = false): Tensor { return red.sum(this, dim, keepdim); }
  mean(dim?: red.Dim, keepdim = false): Tensor { return red.mean(this, dim, keepdim); }
  amax(dim?: red.Dim, keepdim = false): Tensor { return red.amax(this, dim, keepdim); }
  amin(dim?: red.Dim, keepdim = false): Tensor { return red.amin(this, dim, keepdim); }
  prod(dim?: red.Dim, keepdim = false): Tensor { return red.prod(this, dim, keepdim); }
  max(): Tensor;
  max(dim: number, keepdim?: boolean): red.Extremum;
  max(dim?: number, keepdim = false): Tensor | red.Extremum { return dim === undefined ? red.amax(this) : red.maxAlong(this, dim, keepdim); }
  min(): Tensor;
  min(dim: number, keepdim?: boolean): red.Extremum;
  min(dim?: number, keepdim = false): Tensor | red.Extremum { return dim === undefined ? red.amin(this) : red.minAlong(this, dim, keepdim); }
  /** i32 index of the first largest element; of the flattened tensor without `dim`. */
  argmax(dim?: number, keepdim = false): Tensor { return red.argmax(this, dim, keepdim); }
  argmin(dim?: number, keepdim = false): Tensor { return red.argmin(this, dim, keepdim); }
  var(options: { dim?: red.Dim; correction?: number; keepdim?: boolean } = {}): Tensor { return red.variance(this, options); }
  logsumexp(dim: red.Dim, keepdim = false): Tensor { return red.logsumexp(this, dim, keepdim); }
  cumsum(dim: number): Tensor { return cumsum(this, dim); }
  softmax(dim: number): Tensor { return softmax(this, dim); }
  logSoftmax(dim: number): Tensor { return logSoftmax(this, dim); }

  matmul(b: Tensor): Tensor { return matmul(this, b); }

  // Indexing with i32 tensors
  gather(dim: number, at: Tensor): Tensor { return index.gather(this, dim, at); }
  indexSelect(dim: number, at: Tensor): Tensor { return index.indexSelect(this, dim, at); }
  indexAdd(dim: number, at: Tensor, source: Tensor): Tensor { return index.indexAdd(this, dim, at, source); }
  scatterAdd(dim: number, at: Tensor, source: Tensor): Tensor { return index.scatterAdd(this, dim, at, source); }
  /** The k largest of the last dim, descending. */
  topk(k: number): red.Extremum { return topk(this, k); }
}

connectTensors((node) => new Tensor(node));

/** The tensor of a new node: every op enters the graph here. */
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

/** As `apply`, for an op with several outputs. */
export const applyMany = (op: Op, x: readonly Tensor[], attrs: Attrs, outputs: readonly OutputSpec[]): Tensor[] =>
  buildNodes(
    op,
    x.map((t) => t.node),
    attrs,
    outputs,
  ).map((node) => new Tensor(node));

/** The same value as a new node. */
export const alias = (x: Tensor): Tensor => apply(move.reshapeOp, [x], {}, x.shape, x.dtype);

function nest(data: HostArray, shape: Shape, depth = 0, start = 0): Nested {
  if (depth === shape.length) return data[start];
  const stride = shape.slice(depth + 1).reduce((n, d) => n * d, 1);
  return Array.from({ length: shape[depth] }, (_, i) => nest(data, shape, depth + 1, start + i * stride));
}
