import { checkOptions } from "../graph/options.ts";
import { broadcastShapes, numel, type Shape, sameShape, show } from "../graph/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { where } from "./elementwise.ts";
import { coordinatesOf, hostOf, onHost, positionsOf } from "./host.ts";
import { tensor } from "./leaf.ts";
import { expand, reshape, type SliceSpec, slice, unslice } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";
import { pickRows, writeRows } from "./rows.ts";
import { fromStart, guarded, sourceFor } from "./scatter.ts";
import { movedim } from "./shape.ts";

/**
 * One index of `at`:
 * - a number: one element of a dim, which is dropped; negative counts from the end
 * - `null`: a whole dim
 * - `[start, stop, step]`: a slice, as in Python; negative counts from the end, null or absent is open, step is above 0
 * - `"ellipsis"`: whole dims for all that are left out; dims at the end need none
 * - `"none"`: a new dim of size 1
 * - an i32 or u32 tensor: elements at these positions
 * - a bool tensor: elements where it is true. It takes as many dims as it has.
 */
export type AtIndex = number | null | "none" | "ellipsis" | SliceSpec[number] | Tensor;

/** An index tensor. It indexes the dims of the view from `dim` on: as many as it has if it is a mask, else one. */
interface Indexed {
  readonly dim: number;
  readonly index: Tensor;
}

/** What a list of indices selects: a view by numbers, slices and new dims; then elements of the view by tensors. */
interface Selection {
  readonly spec: SliceSpec;
  /** Shape of the view. */
  readonly shape: Shape;
  readonly tensors: readonly Indexed[];
}

const isMask = (i: AtIndex): i is Tensor => i instanceof Tensor && i.dtype === "bool";

/** Number of dims of x that an index takes. */
function taken(op: string, x: Tensor, i: AtIndex): number {
  if (i === "none" || i === "ellipsis") return 0;
  if (i instanceof Tensor) return isMask(i) ? i.ndim : 1;
  if (i === null || typeof i === "number" || (Array.isArray(i) && i.length <= 3)) return 1;
  throw new TypeError(
    `${op}: index ${JSON.stringify(i)} for ${show(x.shape)}: expected a number, null, [start, stop, step], "none", "ellipsis" or a tensor`,
  );
}

/** The list with whole dims (null) in place of "ellipsis" and of dims that are left out at the end. */
function complete(op: string, x: Tensor, index: readonly AtIndex[]): AtIndex[] {
  const dims = index.reduce((n: number, i) => n + taken(op, x, i), 0);
  const dots = index.filter((i) => i === "ellipsis").length;
  if (dots > 1) throw new Error(`${op}: "ellipsis" ${dots} times for ${show(x.shape)}: expected once at most`);
  if (dims > x.ndim) throw new Error(`${op}: indices for ${dims} dims of ${show(x.shape)}: expected at most ${x.ndim}`);
  const list = dots ? index : [...index, "ellipsis" as const];
  return list.flatMap((i) => (i === "ellipsis" ? new Array<null>(x.ndim - dims).fill(null) : [i]));
}

function selectionOf(op: string, x: Tensor, index: readonly AtIndex[]): Selection {
  const spec: SliceSpec[number][] = [];
  const dims: (number | "none")[] = []; // the dim of x behind each dim of the view
  const tensors: Indexed[] = [];
  for (const i of complete(op, x, index)) {
    const d = spec.length;
    if (i === "none") dims.push(i);
    else if (typeof i === "number") spec.push(elementOf(op, x, d, i));
    else {
      if (i instanceof Tensor) tensors.push({ dim: dims.length, index: i });
      if (isMask(i)) checkMask(op, x, d, i);
      for (let k = 0; k < taken(op, x, i); k++) {
        dims.push(spec.length);
        spec.push(i instanceof Tensor ? [] : ((i ?? []) as SliceSpec[number]));
      }
    }
  }
  const sizes = slice(x, spec).shape;
  return { spec, shape: dims.map((d) => (d === "none" ? 1 : sizes[d])), tensors };
}

function elementOf(op: string, x: Tensor, d: number, i: number): [number, number] {
  const n = x.shape[d];
  if (!Number.isInteger(i) || i < -n || i >= n)
    throw new RangeError(
      `${op}: index ${i} is out of range for dim ${d} of ${show(x.shape)}: expected a whole number from ${-n} to ${n - 1}`,
    );
  const at = i < 0 ? i + n : i;
  return [at, at + 1];
}

function checkMask(op: string, x: Tensor, d: number, mask: Tensor): void {
  if (mask.ndim === 0 || !sameShape(mask.shape, x.shape.slice(d, d + mask.ndim)))
    throw new Error(
      `${op}: mask ${show(mask.shape)} does not fit dims ${d} to ${d + mask.ndim - 1} of ${show(x.shape)}: expected equal sizes, and at least one dim`,
    );
}

const viewOf = (x: Tensor, { spec, shape }: Selection): Tensor => reshape(slice(x, spec), shape);

/** How index tensors select rows of a matrix: the indexed dims of the view, merged, times all others. */
interface Rows {
  /** The indexed dims of the view. */
  readonly dims: readonly number[];
  /** Row per position, i32 [N]. */
  readonly ids: Tensor;
  /** Shape of the broadcast index tensors, N elements. */
  readonly positions: Shape;
  /** The dim of the result where the positions' dims start. */
  readonly place: number;
  /** No two ids are equal. */
  readonly unique: boolean;
}

function rowsOf(op: string, { shape, tensors }: Selection): Rows {
  const indices = tensors.flatMap(({ dim, index }) =>
    isMask(index)
      ? maskPositions(op, index).map((at, k): Indexed => ({ dim: dim + k, index: at }))
      : [{ dim, index: fromStart(op, index, shape[dim]) }],
  );
  const dims = indices.map((i) => i.dim);
  const positions = indices.reduce((s: Shape, { index }) => broadcastShapes(op, s, index.shape), []);
  const inside = indices.map(({ dim, index }) => guarded(index.to("i32"), index, shape[dim]));
  const ids = combine(
    inside,
    dims.map((d) => shape[d]),
  );
  return {
    dims,
    ids: reshape(expand(ids, positions), [numel(positions)]),
    positions,
    place: placeOf(indices),
    unique: tensors.length === 1 && isMask(tensors[0].index),
  };
}

/** Where the positions' dims start: at the first index tensor if all are adjacent, else first. As a number, a 0-d tensor drops its dim before. */
function placeOf(indices: readonly Indexed[]): number {
  const dropped = indices.filter(({ index }) => index.ndim === 0);
  const dims = indices
    .filter(({ index }) => index.ndim > 0)
    .map(({ dim }) => dim - dropped.filter((other) => other.dim < dim).length);
  const adjacent = dims.every((d, i) => i === 0 || d === dims[i - 1] + 1);
  return dims.length > 0 && adjacent ? dims[0] : 0;
}

/** i32 positions of the true elements, one vector per dim. */
function maskPositions(op: string, mask: Tensor): Tensor[] {
  return coordinatesOf(positionsOf(onHost(op, "mask", mask)), mask.shape).map((at) => tensor(at));
}

/** Row-major position in dims of `sizes`; -1 if any index is -1. */
function combine(indices: readonly Tensor[], sizes: Shape): Tensor {
  const linear = indices.reduce((sum, index, i) => sum.mul(sizes[i]).add(index));
  const unknown = indices.filter((i) => !hostOf(i));
  if (indices.length === 1 || unknown.length === 0) return linear;
  return where(
    unknown.map((i) => i.ge(0)).reduce((a, b) => a.logicalAnd(b)),
    linear,
    -1,
  );
}

const range = (n: number, start = 0): number[] => Array.from({ length: n }, (_, i) => start + i);

/** The indexed dims of a view first, as one dim, and all others as another. */
function toMatrix(view: Tensor, dims: readonly number[]): Tensor {
  const first = movedim(view, dims, range(dims.length));
  return reshape(first, [numel(first.shape.slice(0, dims.length)), numel(first.shape.slice(dims.length))]);
}

/** The inverse of `toMatrix` for a view of `shape`. */
function fromMatrix(matrix: Tensor, dims: readonly number[], shape: Shape): Tensor {
  const others = shape.filter((_, d) => !dims.includes(d));
  return movedim(reshape(matrix, [...dims.map((d) => shape[d]), ...others]), range(dims.length), dims);
}

/**
 * Part of x. Index tensors broadcast together. Their dims come where the first of them stands, or first if others lie between
 * them. A mask must be on the host, because the number of its true elements is the size of the result: `await mask.data()`
 * first, or use `maskedSelect`.
 * Positions on the device that are out of range read 0.
 * @throws for positions on the host that are out of range, and for tensors that do not broadcast.
 * @example x.at(0, [1, 3]); x.at("ellipsis", [null, null, 2]); x.at(rows, columns)
 */
export function at(x: Tensor, ...index: readonly AtIndex[]): Tensor {
  const selection = selectionOf("at", x, index);
  const view = viewOf(x, selection);
  if (selection.tensors.length === 0) return view;
  const { dims, ids, positions, place, unique } = rowsOf("at", selection);
  const matrix = toMatrix(view, dims);
  const rows = unique ? pickRows(matrix, ids) : matrix.indexSelect(0, ids);
  const others = view.shape.filter((_, d) => !dims.includes(d));
  const here = range(positions.length);
  return movedim(reshape(rows, [...positions, ...others]), here, range(positions.length, place));
}

export interface PutOptions {
  /** Adds the values instead of replacing. Repeated positions add up. */
  accumulate?: boolean;
}

/**
 * x with the part that `index` selects (as in `at`) replaced by `values`. x itself stays as it is.
 * Of positions that repeat, the last one in row-major order stays; with `accumulate` all are added, in a fixed order.
 * @param values a number, or a tensor that broadcasts to the part's shape. A mask may stay on the device if this is one value.
 * @example x.atSet([0, [1, 3]], 0); x.atSet([mask], values); x.atSet([rows], updates, { accumulate: true })
 */
export function atSet(x: Tensor, index: readonly AtIndex[], values: Tensor | number, options: PutOptions = {}): Tensor {
  return put("atSet", x, index, values, options);
}

/**
 * x with the elements at index tensors replaced by `values`, or increased with `accumulate`: `atSet` with tensors alone.
 * Null stands for a whole dim.
 * @example x.indexPut([rows, columns], values, { accumulate: true })
 */
export function indexPut(
  x: Tensor,
  indices: readonly (Tensor | null)[],
  values: Tensor | number,
  options: PutOptions = {},
): Tensor {
  if (!Array.isArray(indices) || indices.some((i) => i !== null && !(i instanceof Tensor)))
    throw new TypeError(
      "indexPut: expected a list of index tensors: `x.indexPut([rows], values)`; atSet takes all indices",
    );
  return put("indexPut", x, indices, values, options);
}

function put(op: string, x: Tensor, index: readonly AtIndex[], values: Tensor | number, options: PutOptions): Tensor {
  checkOptions(op, options, ["accumulate"]);
  if (!Array.isArray(index)) throw new TypeError(`${op}: expected a list of indices: ${op}([0, null], values)`);
  if (typeof values !== "number" && !(values instanceof Tensor))
    throw new TypeError(`${op}: values must be a tensor or a number, got ${typeof values}`);
  const { accumulate = false } = options;
  const selection = selectionOf(op, x, index);
  const given = typeof values === "number" ? full([], values, x.dtype) : sourceFor(op, x, values);
  if (selection.tensors.length === 0) return putView(op, x, selection, given, accumulate);
  const view = viewOf(x, selection);
  const changed = putRows(op, view, selection, given, accumulate);
  return sameShape(view.shape, x.shape) ? changed : putView(op, x, selection, changed, false);
}

const zero = (x: Tensor): Tensor => full([], 0, x.dtype);
/** a + b; of booleans, a or b. */
const added = (a: Tensor, b: Tensor): Tensor => (a.dtype === "bool" ? a.logicalOr(b) : a.add(b));

function spread(op: string, values: Tensor, shape: Shape): Tensor {
  const lead = values.ndim - shape.length;
  const fits = values.shape.slice(0, Math.max(lead, 0)).every((n) => n === 1);
  const trimmed = lead > 0 && fits ? reshape(values, values.shape.slice(lead)) : values;
  if (!fits || trimmed.shape.some((n, i) => n !== 1 && n !== shape[i + shape.length - trimmed.ndim]))
    throw new Error(`${op}: values ${show(values.shape)} do not broadcast to the selected part ${show(shape)}`);
  return expand(trimmed, shape);
}

/** x with the view of a selection replaced. */
function putView(op: string, x: Tensor, { spec, shape }: Selection, values: Tensor, accumulate: boolean): Tensor {
  const spreadValues = spread(op, values, shape);
  if (numel(shape) === 0) return x;
  const part = slice(x, spec);
  const back = unslice(reshape(spreadValues, part.shape), x.shape, spec);
  if (accumulate) return added(x, back);
  const inside = x.shape.flatMap((n, d) => insideOf(positionsAlong(d, n, x.ndim), n, spec[d]));
  return inside.length === 0
    ? back
    : where(
        inside.reduce((a, b) => a.logicalAnd(b)),
        back,
        x,
      );
}

/** Conditions for a position to lie in a slice of a dim of size n. None if the slice is the whole dim. */
function insideOf(position: Tensor, n: number, [from, to, step]: SliceSpec[number]): Tensor[] {
  const bound = (v: number | null | undefined, open: number): number =>
    v == null ? open : Math.min(Math.max(v < 0 ? v + n : v, 0), n);
  const [start, stop, by] = [bound(from, 0), bound(to, n), step ?? 1];
  return [
    ...(start > 0 ? [position.ge(start)] : []),
    ...(stop < n ? [position.lt(stop)] : []),
    ...(by > 1
      ? [
          position
            .add(by - (start % by))
            .mod(by)
            .eq(0),
        ]
      : []),
  ];
}

/** The view of a selection with the elements at its index tensors replaced. */
function putRows(op: string, view: Tensor, selection: Selection, values: Tensor, accumulate: boolean): Tensor {
  const [{ dim, index: first }] = selection.tensors;
  if (selection.tensors.length === 1 && isMask(first) && values.numel === 1) {
    const mask = reshape(first, [...first.shape, ...view.shape.slice(dim + first.ndim).map(() => 1)]);
    const one = reshape(values, []);
    return accumulate ? added(view, where(mask, one, zero(view))) : where(mask, one, view);
  }
  const { dims, ids, positions, place } = rowsOf(op, selection);
  const others = view.shape.filter((_, d) => !dims.includes(d));
  const part = [...others.slice(0, place), ...positions, ...others.slice(place)];
  const here = range(positions.length, place);
  const source = movedim(spread(op, values, part), here, range(positions.length));
  const rows = reshape(source, [numel(positions), numel(others)]);
  if (rows.numel === 0) return view;
  const matrix = toMatrix(view, dims);
  if (accumulate && view.dtype === "bool")
    throw new TypeError(`${op}: accumulate adds numbers, got bool ${show(view.shape)}`);
  const changed = accumulate ? matrix.indexAdd(0, ids, rows) : writeRows(matrix, ids, rows);
  return fromMatrix(changed, dims, view.shape);
}

function checkBool(op: string, mask: Tensor): void {
  if (mask.dtype !== "bool")
    throw new TypeError(`${op}: the mask must be bool, got ${mask.dtype} ${show(mask.shape)}: compare it, x.ne(0)`);
}

/**
 * The elements where `mask` (bool) is true, as a vector in row-major order. Both broadcast. A promise, because the number of
 * elements is data: it reads the mask.
 * @example const positive = await maskedSelect(x, x.gt(0))
 */
export async function maskedSelect(x: Tensor, mask: Tensor): Promise<Tensor> {
  checkBool("maskedSelect", mask);
  const shape = broadcastShapes("maskedSelect", x.shape, mask.shape);
  const spreadMask = expand(mask, shape);
  const elements = reshape(expand(x, shape), [numel(shape), 1]);
  const ids = tensor(positionsOf(await spreadMask.data()));
  return reshape(pickRows(elements, ids), [ids.numel]);
}

/**
 * Positions of the elements that are not 0, in row-major order: i32 [n, ndim]. NaN counts. A promise, because n is data: it reads x.
 * @example const [rows, columns] = (await nonzero(x.gt(0))).unbind(1)
 */
export async function nonzero(x: Tensor): Promise<Tensor> {
  const at = positionsOf(await x.data());
  const columns = coordinatesOf(at, x.shape);
  const data = new Int32Array(at.length * x.ndim);
  columns.forEach((column, d) => column.forEach((v, i) => (data[i * x.ndim + d] = v)));
  return tensor(data, { shape: [at.length, x.ndim] });
}

/** As `nonzero`: torch has both names. */
export const argwhere = nonzero;

/**
 * x whose elements where `mask` (bool) is true are replaced, in row-major order, by the first elements of `source`. x and mask
 * broadcast. Where source has too few elements, 0.
 * @throws if the mask is on the host and source has too few elements.
 */
export function maskedScatter(x: Tensor, mask: Tensor, source: Tensor): Tensor {
  checkBool("maskedScatter", mask);
  const shape = broadcastShapes("maskedScatter", x.shape, mask.shape);
  const values = sourceFor("maskedScatter", x, source);
  const host = hostOf(mask);
  const count = host ? (positionsOf(host).length * numel(shape)) / Math.max(1, mask.numel) : 0;
  if (count > values.numel)
    throw new Error(
      `maskedScatter: the mask ${show(mask.shape)} selects ${count} elements of ${show(shape)}, source ${show(source.shape)} has ${values.numel}`,
    );
  const [whole, total] = [expand(mask, shape), numel(shape)];
  if (total === 0 || values.numel === 0) return expand(x, shape);
  const flat = reshape(whole, [total]);
  const ids = where(flat, flat.cumsum(0).sub(1), -1);
  const picked = reshape(pickRows(reshape(values, [values.numel, 1]), ids), shape);
  return where(whole, picked, expand(x, shape));
}
