import { byteSize, type DType } from "../../graph/dtype.ts";
import { bounds, type Index } from "../../graph/index-map.ts";
import type { BufferRef, Operand } from "../../graph/kernel-call.ts";
import { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { pickOp, windowOp } from "../../graph/structural.ts";

const ALIGNMENT = 256; // bytes: WebGPU's default alignment of binding offsets

export const elementBytes = (dtype: DType): number => (dtype === "f16" ? 2 : 4);
export const bytesOf = ({ dtype, shape }: { dtype: DType; shape: readonly number[] }): number =>
  byteSize(dtype, numel(shape));

/** First element of a window that contains element `lo`. */
const startOf = (dtype: DType, lo: number): number => {
  const unit = ALIGNMENT / elementBytes(dtype);
  return Math.floor(lo / unit) * unit;
};

/** Whether a window can start exactly at a view's offset. */
export const isAligned = ({ buffer, offset }: { buffer: Node; offset: number }): boolean =>
  startOf(buffer.dtype, offset) === offset;

/** Bytes of a window with elements lo to hi. */
export const windowBytes = (dtype: DType, lo: number, hi: number): number =>
  byteSize(dtype, hi + 1 - startOf(dtype, lo));

/** Most bytes of a binding of a strided view: its whole buffer, or the range that it reads. */
export function extent({ buffer, shape, strides }: Operand): number {
  const last = shape.reduce((sum, n, d) => sum + Math.abs(strides[d]) * (n - 1), 0);
  return Math.min(bytesOf(buffer), (last + 1) * elementBytes(buffer.dtype) + ALIGNMENT);
}

/** A window with elements lo to hi of the buffer of `ref`, and its first element. */
export function windowOf(ref: BufferRef, dtype: DType, lo: number, hi: number): { node: Node; start: number } {
  const start = startOf(dtype, lo);
  if ("temp" in ref) throw new Error("internal: scratch is never larger than a binding");
  const base = "op" in ref ? ref : new Node(pickOp, [ref.node], { output: ref.output }, [], dtype);
  return { node: new Node(windowOp, [base], { offset: start }, [hi + 1 - start], dtype), start };
}

/** The buffer that contains a window, and the window's offset in bytes. Any other reference is its own buffer. */
export function wholeBuffer(ref: BufferRef): { ref: BufferRef; offset: number } {
  if (!("op" in ref) || ref.op !== windowOp) return { ref, offset: 0 };
  return { ref: ref.src[0], offset: (ref.attrs.offset as number) * elementBytes(ref.dtype) };
}

/** First and last element that an address reads in a buffer of `count` elements. Addresses outside are guarded by a pad. */
export function reach(address: Index, count: number): [number, number] {
  const [lo, hi] = bounds(address);
  const first = Math.min(Math.max(0, lo), count - 1);
  return [first, Math.max(first, Math.min(hi, count - 1))];
}

/** The variable along which an address spans the most elements. */
function widestVariable(address: Index): number | undefined {
  let best: number | undefined;
  let distance = 0;
  for (const { coef, atom } of address.terms) {
    const span = Math.abs(coef) * (atom.size - 1);
    const id = atom.kind === "var" ? atom.id : atom.kind === "value" ? undefined : widestVariable(atom.of);
    if (id !== undefined && span > distance) [best, distance] = [id, span];
  }
  return best;
}

/** How to cut an iteration space: along which variable, and into how many parts at least. */
export interface Cut {
  readonly variable: number;
  readonly parts: number;
}

/** The next cut so that each load or store reads at most `limit` bytes. Undefined if all fit, or no cut helps. */
export function cutOf(
  accesses: readonly { readonly node: Node; readonly address: Index }[],
  limit: number,
): Cut | undefined {
  for (const { node, address } of accesses) {
    if (bytesOf(node) <= limit) continue;
    const bytes = windowBytes(node.dtype, ...reach(address, numel(node.shape)));
    const variable = bytes > limit ? widestVariable(address) : undefined;
    if (variable !== undefined) return { variable, parts: Math.ceil(bytes / limit) };
  }
  return undefined;
}

/**
 * Cuts `size` into at least `parts` stretches. All but the last are multiples of 128, or, if shorter, of `unit`, or, if still
 * shorter, of 1.
 */
export function stretches(size: number, parts: number, unit = 1): { start: number; size: number }[] {
  const even = Math.floor(size / parts);
  const multiple = even >= 128 ? 128 : even >= unit ? unit : 1;
  const step = Math.max(1, Math.floor(even / multiple) * multiple);
  return Array.from({ length: Math.ceil(size / step) }, (_, i) => ({
    start: i * step,
    size: Math.min(step, size - i * step),
  }));
}
