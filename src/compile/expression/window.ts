import { byteSize, type DType } from "../../graph/dtype.ts";
import { bounds, type Index } from "../../graph/index-map.ts";
import type { BufferRef, Operand } from "../../graph/kernel-call.ts";
import { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { pickOp, windowOp } from "../../graph/structural.ts";

const ALIGNMENT = 256; // bytes; every adapter allows bindings to start there

export const elementBytes = (dtype: DType): number => (dtype === "f16" ? 2 : 4);
export const bytesOf = ({ dtype, shape }: { dtype: DType; shape: readonly number[] }): number =>
  byteSize(dtype, numel(shape));

/** First element of the window from which elements from `lo` on can be bound. */
const startOf = (dtype: DType, lo: number): number => {
  const unit = ALIGNMENT / elementBytes(dtype);
  return Math.floor(lo / unit) * unit;
};

/** Whether a window can start exactly where a view does. */
export const isAligned = ({ buffer, offset }: { buffer: Node; offset: number }): boolean =>
  startOf(buffer.dtype, offset) === offset;

/** Bytes of a window that holds elements lo to hi. */
export const windowBytes = (dtype: DType, lo: number, hi: number): number =>
  byteSize(dtype, hi + 1 - startOf(dtype, lo));

/** Bytes that a binding of a strided view takes at most: those of its buffer, or the stretch in which it lies. */
export function extent({ buffer, shape, strides }: Operand): number {
  const last = shape.reduce((sum, n, d) => sum + Math.abs(strides[d]) * (n - 1), 0);
  return Math.min(bytesOf(buffer), (last + 1) * elementBytes(buffer.dtype) + ALIGNMENT);
}

/** Elements lo to hi of `ref`'s buffer, and the first element that is bound. */
export function windowOf(ref: BufferRef, dtype: DType, lo: number, hi: number): { node: Node; start: number } {
  const start = startOf(dtype, lo);
  if ("temp" in ref) throw new Error("internal: scratch is never larger than a binding");
  const base = "op" in ref ? ref : new Node(pickOp, [ref.node], { output: ref.output }, [], dtype);
  return { node: new Node(windowOp, [base], { offset: start }, [hi + 1 - start], dtype), start };
}

/** The buffer that a window is part of, and the window's offset in it in bytes. Anything else is its own buffer. */
export function wholeBuffer(ref: BufferRef): { ref: BufferRef; offset: number } {
  if (!("op" in ref) || ref.op !== windowOp) return { ref, offset: 0 };
  return { ref: ref.src[0], offset: (ref.attrs.offset as number) * elementBytes(ref.dtype) };
}

/** First and last element that an address reaches in a buffer of `count` elements (what a pad guards lies outside). */
export function reach(address: Index, count: number): [number, number] {
  const [lo, hi] = bounds(address);
  const first = Math.min(Math.max(0, lo), count - 1);
  return [first, Math.max(first, Math.min(hi, count - 1))];
}

/** The variable over which an address moves farthest. */
function widestVariable(address: Index): number | undefined {
  let best: number | undefined;
  let distance = 0;
  for (const { coef, atom } of address.terms) {
    const moved = Math.abs(coef) * (atom.size - 1);
    const id = atom.kind === "var" ? atom.id : atom.kind === "value" ? undefined : widestVariable(atom.of);
    if (id !== undefined && moved > distance) [best, distance] = [id, moved];
  }
  return best;
}

/** How to cut an iteration space: along which variable, and into how many parts at least. */
export interface Cut {
  readonly variable: number;
  readonly parts: number;
}

/** The cut that brings the accesses of some loads or stores nearer to `limit` bytes each; undefined = all fit, or none helps. */
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

/** At least `parts` stretches of `size` (or all there are), but for the last multiples of `unit`, and of 128, where they are that long. */
export function stretches(size: number, parts: number, unit = 1): { start: number; size: number }[] {
  const even = Math.floor(size / parts);
  const multiple = even >= 128 ? 128 : even >= unit ? unit : 1;
  const step = Math.max(1, Math.floor(even / multiple) * multiple);
  return Array.from({ length: Math.ceil(size / step) }, (_, i) => ({
    start: i * step,
    size: Math.min(step, size - i * step),
  }));
}
