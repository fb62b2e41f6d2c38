import { checkOptions } from "../graph/options.ts";
import { listOf, type Numbers, normalizeDim, normalizeDims, numel, type Shape, show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { cat, expand, narrow, permute, reshape, select } from "./movement.ts";
import type { Dim } from "./reduce.ts";

// Functions of shape that are composed of views.

/** `dims` as whole numbers of at least `least`. */
function checkCounts(op: string, counts: readonly number[], x: Tensor, least = 0): void {
  if (!counts.every((n) => Number.isInteger(n) && n >= least))
    throw new RangeError(`${op}: ${show(counts)} for ${show(x.shape)}: expected whole numbers of at least ${least}`);
}

/** x repeated repeats[i] times along dim i. There are at least as many numbers as dims; new dims come first. */
export function repeat(x: Tensor, ...repeats: Numbers): Tensor {
  const counts = listOf(repeats);
  checkCounts("repeat", counts, x);
  const lead = counts.length - x.ndim;
  if (lead < 0)
    throw new Error(
      `repeat: ${show(counts)} has ${counts.length} numbers for ${show(x.shape)}: expected at least ${x.ndim}, one per dim`,
    );
  const shape = [...new Array<number>(lead).fill(1), ...x.shape];
  // [n, m] -> [1, n, 1, m] -> [r, n, s, m] -> [r n, s m]
  const apart = reshape(
    x,
    shape.flatMap((n) => [1, n]),
  );
  const spread = expand(
    apart,
    shape.flatMap((n, i) => [counts[i], n]),
  );
  return reshape(
    spread,
    shape.map((n, i) => n * counts[i]),
  );
}

/** As `repeat`, but missing numbers are 1 for the first dims. */
export function tile(x: Tensor, ...repeats: Numbers): Tensor {
  const counts = listOf(repeats);
  checkCounts("tile", counts, x);
  return repeat(x, [...new Array<number>(Math.max(0, x.ndim - counts.length)).fill(1), ...counts]);
}

/** Moves dims to new places; the others keep their order. `movedim(x, 0, -1)`, `movedim(x, [0, 1], [2, 0])` */
export function movedim(x: Tensor, source: Dim, destination: Dim): Tensor {
  const list = (dims: Dim): number[] => [dims].flat().map((d) => normalizeDim("movedim", d, x.ndim));
  const [from, to] = [list(source), list(destination)];
  const distinct = (dims: number[]): boolean => new Set(dims).size === dims.length;
  if (from.length !== to.length || !distinct(from) || !distinct(to))
    throw new Error(
      `movedim: dims ${show([source].flat())} to ${show([destination].flat())} of ${show(x.shape)}: expected as many on both sides, each once`,
    );
  const rest = x.shape.map((_, d) => d).filter((d) => !from.includes(d));
  const order = x.shape.map((_, d) => (to.includes(d) ? from[to.indexOf(d)] : rest.shift()!));
  return permute(x, order);
}

/** Splits a dim into `sizes`, whose product it is. One size may be -1. */
export function unflatten(x: Tensor, dim: number, sizes: Shape): Tensor {
  const d = normalizeDim("unflatten", dim, x.ndim);
  const n = x.shape[d];
  const known = numel(sizes.filter((m) => m !== -1));
  const full = sizes.map((m) => (m === -1 ? n / known : m));
  if (
    x.ndim === 0 ||
    sizes.filter((m) => m === -1).length > 1 ||
    numel(full) !== n ||
    !full.every((m) => Number.isInteger(m) && m >= 0)
  )
    throw new Error(
      `unflatten: dim ${dim} of ${show(x.shape)} does not split into ${show(sizes)}: expected sizes with product ${n}, at most one -1`,
    );
  return reshape(x, [...x.shape.slice(0, d), ...full, ...x.shape.slice(d + 1)]);
}

/** The slices of `dim`, which they drop: [3, 4] gives three of [4]. */
export function unbind(x: Tensor, dim = 0): Tensor[] {
  const d = normalizeDim("unbind", dim, x.ndim);
  if (x.ndim === 0) throw new Error("unbind: a scalar has no dims: expected at least one");
  return Array.from({ length: x.shape[d] }, (_, i) => select(x, d, i));
}

/** `sections` nearly equal parts (the first ones are longer), or parts that start at the given positions. */
export function tensorSplit(x: Tensor, sections: number | readonly number[], dim = 0): Tensor[] {
  const d = normalizeDim("tensorSplit", dim, x.ndim);
  const n = x.shape[d];
  if (x.ndim === 0 || (typeof sections === "number" && !(Number.isInteger(sections) && sections > 0)))
    throw new RangeError(
      `tensorSplit: ${sections} parts of ${show(x.shape)}: expected a number of at least 1, or positions, and at least one dim`,
    );
  const starts =
    typeof sections === "number"
      ? Array.from(
          { length: sections - 1 },
          (_, i) => (i + 1) * Math.floor(n / sections) + Math.min(i + 1, n % sections),
        )
      : sections.map((at) => Math.min(Math.max(at < 0 ? at + n : at, 0), n));
  return [0, ...starts].map((start, i) => narrow(x, d, start, Math.max(0, (starts[i] ?? n) - start)));
}

/** Vectors become rows. */
const rows = (x: Tensor): Tensor => (x.ndim < 2 ? reshape(x, [1, x.numel]) : x);
/** Scalars become vectors. */
const vectors = (x: Tensor): Tensor => (x.ndim === 0 ? reshape(x, [1]) : x);
/** At least three dims: [n] -> [1, n, 1], [m, n] -> [m, n, 1]. */
const deep = (x: Tensor): Tensor => (x.ndim > 2 ? x : reshape(x, [...rows(x).shape, 1]));

/** Joins tensors side by side: along dim 1, or dim 0 for vectors. */
export function hstack(tensors: readonly Tensor[]): Tensor {
  const list = tensors.map(vectors);
  return cat(list, list[0]?.ndim === 1 ? 0 : 1);
}
/** Joins tensors along dim 0. Vectors are rows: two of [3] give [2, 3]. */
export const vstack = (tensors: readonly Tensor[]): Tensor => cat(tensors.map(rows), 0);
/** Joins tensors along dim 2. [n] counts as [1, n, 1], [m, n] as [m, n, 1]. */
export const dstack = (tensors: readonly Tensor[]): Tensor => cat(tensors.map(deep), 2);

/** Rotates k times by 90 degrees in the plane of two dims, from the first towards the second. */
export function rot90(x: Tensor, k = 1, dims: readonly [number, number] = [0, 1]): Tensor {
  if (dims.length !== 2 || !Number.isInteger(k))
    throw new RangeError(
      `rot90: k ${k} and dims ${show(dims)} of ${show(x.shape)}: expected a whole number and two dims`,
    );
  const [a, b] = dims.map((d) => normalizeDim("rot90", d, x.ndim));
  normalizeDims("rot90", dims, x.ndim);
  const turns = ((k % 4) + 4) % 4;
  if (turns === 0) return x;
  if (turns === 2) return x.flip([a, b]);
  return turns === 1 ? x.flip(b).transpose(a, b) : x.transpose(a, b).flip(b);
}

/** Shifts elements cyclically: by shifts[i] along dims[i], or the flattened elements if no dims are given. */
export function roll(x: Tensor, shifts: Dim, dims?: Dim): Tensor {
  const by = [shifts].flat();
  if (!by.every(Number.isInteger))
    throw new RangeError(`roll: shifts ${show(by)} of ${show(x.shape)}: expected whole numbers`);
  if (dims === undefined) {
    if (by.length !== 1)
      throw new Error(`roll: ${by.length} shifts without dims for ${show(x.shape)}: expected one, or a dim for each`);
    return reshape(rollOne(reshape(x, [-1]), by[0], 0), x.shape);
  }
  const along = [dims].flat();
  if (along.length !== by.length)
    throw new Error(`roll: ${by.length} shifts for ${along.length} dims of ${show(x.shape)}: expected a shift per dim`);
  return along.reduce((t, d, i) => rollOne(t, by[i], normalizeDim("roll", d, x.ndim)), x);
}

function rollOne(x: Tensor, shift: number, d: number): Tensor {
  const n = x.shape[d];
  if (!n) return x;
  const cut = ((-shift % n) + n) % n;
  return cut === 0 ? x : cat([narrow(x, d, cut, n - cut), narrow(x, d, 0, cut)], d);
}

/** Reverses the columns (dim 1). */
export function fliplr(x: Tensor): Tensor {
  if (x.ndim < 2) throw new Error(`fliplr: expected at least two dims, got ${show(x.shape)}`);
  return x.flip(1);
}

/** Reverses the rows (dim 0). */
export function flipud(x: Tensor): Tensor {
  if (x.ndim < 1) throw new Error("flipud: expected at least one dim, got a scalar");
  return x.flip(0);
}

/**
 * Grids of coordinates: for vectors of sizes n, m, … tensors of shape [n, m, …], each constant along the other dims.
 * @param indexing "ij" (default): the first vector runs along dim 0. "xy": it runs along dim 1, the second along dim 0.
 * @example const [y, x] = meshgrid([arange(3), arange(4)])
 */
export function meshgrid(vectorsGiven: readonly Tensor[], options: { indexing?: "ij" | "xy" } = {}): Tensor[] {
  checkOptions("meshgrid", options, ["indexing"]);
  const { indexing = "ij" } = options;
  if (indexing !== "ij" && indexing !== "xy")
    throw new Error(`meshgrid: unknown indexing ${indexing}: expected "ij" or "xy"`);
  const list = vectorsGiven.map(vectors);
  for (const v of list) if (v.ndim !== 1) throw new Error(`meshgrid: expected vectors, got ${show(v.shape)}`);
  const rank = list.length;
  const order = list.map((_, i) => i);
  if (indexing === "xy" && rank > 1) [order[0], order[1]] = [1, 0]; // order[i]: dim along which vector i runs
  const shape = list.map((_, d) => list[order[d]].shape[0]); // the swap is its own inverse
  return list.map((v, i) =>
    expand(
      reshape(
        v,
        shape.map((n, d) => (d === order[i] ? n : 1)),
      ),
      shape,
    ),
  );
}

/** Differences of neighbours along `dim`, n times: x[i + 1] - x[i]. Of booleans: whether they differ. */
export function diff(x: Tensor, options: { n?: number; dim?: number } = {}): Tensor {
  checkOptions("diff", options, ["n", "dim"]);
  const { n = 1, dim = -1 } = options;
  const d = normalizeDim("diff", dim, x.ndim);
  if (x.ndim === 0 || !Number.isInteger(n) || n < 0)
    throw new RangeError(
      `diff: n ${n} of ${show(x.shape)}: expected a whole number of at least 0, and at least one dim`,
    );
  let y = x;
  for (let i = 0; i < Math.min(n, x.shape[d]); i++) {
    const [after, before] = [narrow(y, d, 1, y.shape[d] - 1), narrow(y, d, 0, y.shape[d] - 1)];
    y = x.dtype === "bool" ? after.ne(before) : after.sub(before);
  }
  return y;
}
