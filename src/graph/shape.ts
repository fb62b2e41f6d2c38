// Shape arithmetic, and the checks that ops make at the call.

export type Shape = readonly number[];

/** Sizes or dims as arguments: `f(2, 3)`, or one list `f([2, 3])`. */
export type Numbers = readonly number[] | readonly [list: readonly number[]];

/** The numbers of such arguments. */
export const listOf = (args: Numbers): readonly number[] =>
  args.length === 1 && typeof args[0] === "object" ? args[0] : (args as readonly number[]);

// Plain loops: every op of every step calls these functions.
export function numel(shape: Shape): number {
  let n = 1;
  for (let i = 0; i < shape.length; i++) n *= shape[i];
  return n;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export const show = (shape: Shape): string => `[${shape.join(",")}]`;

/** Row-major strides in elements. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

/** Result shape of numpy broadcasting. @throws an error with `op` and both shapes if they do not broadcast. */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new Error(
        `${op}: shapes do not broadcast: ${show(a)} and ${show(b)} (${x} vs ${y} in dim ${i - rank}): sizes must be equal or 1`,
      );
    }
    out[i] = x === 1 ? y : x;
  }
  return out;
}

/** A dim in [0, rank), from one that may be negative. @throws if it is out of range. */
export function normalizeDim(op: string, dim: number, rank: number): number {
  const d = dim < 0 ? dim + Math.max(rank, 1) : dim;
  if (!Number.isInteger(dim) || d < 0 || d >= Math.max(rank, 1)) {
    throw new RangeError(
      `${op}: dim ${dim} is out of range for a tensor of ${rank} dims: expected ${-Math.max(rank, 1)} to ${Math.max(rank, 1) - 1}`,
    );
  }
  return d;
}

/** Dims to reduce over, sorted: one, several, or all if undefined. @throws if a dim repeats. */
export function normalizeDims(op: string, dims: number | readonly number[] | undefined, rank: number): number[] {
  if (dims === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = (typeof dims === "number" ? [dims] : dims).map((d) => normalizeDim(op, d, rank));
  const unique = [...new Set(list)].sort((a, b) => a - b);
  if (unique.length !== list.length) throw new RangeError(`${op}: dims ${show(list)} repeat: expected each dim once`);
  return unique;
}
