import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { where } from "./elementwise.ts";
import { tensor } from "./leaf.ts";
import { averageTo } from "./pool.ts";
import type { Spatial } from "./windows.ts";

export interface InterpolateOptions {
  /** New spatial sizes: one number for all dims, or one per dim. Either this or `scaleFactor`. */
  size?: Spatial;
  /** Multiplies the spatial sizes, rounded down. Positions are computed with this factor, not with the ratio of the sizes. */
  scaleFactor?: Spatial;
  /** Default nearest. linear takes [N, C, L], bilinear and bicubic [N, C, H, W], trilinear [N, C, D, H, W], the others all. */
  mode?: "nearest" | "nearest-exact" | "linear" | "bilinear" | "bicubic" | "trilinear" | "area";
  /** Maps the centres of corner elements, not the edges of the input, onto each other. For linear to bicubic. */
  alignCorners?: boolean;
  /** Bilinear and bicubic: widens the filter when the image shrinks. */
  antialias?: boolean;
}

type Mode = NonNullable<InterpolateOptions["mode"]>;

const ranks: Readonly<Record<Mode, readonly number[]>> = {
  nearest: [1, 2, 3],
  "nearest-exact": [1, 2, 3],
  linear: [1],
  bilinear: [2],
  bicubic: [2],
  trilinear: [3],
  area: [1, 2, 3],
};

/** A dim of `input` elements that is resized to `output`. An output element lies `scale` input elements after the one before. */
interface Dim {
  readonly input: number;
  readonly output: number;
  readonly scale: number;
}

/**
 * Resizes the spatial dims of x [N, C, ...spatial], as torch's `interpolate` does.
 * @throws if the mode does not take the rank of x, or sizes are not positive whole numbers
 * @example interpolate(x, { size: [24, 24], mode: "bilinear" }); interpolate(x, { scaleFactor: 2 })
 */
export function interpolate(x: Tensor, options: InterpolateOptions): Tensor {
  checkOptions("interpolate", options, ["size", "scaleFactor", "mode", "alignCorners", "antialias"]);
  const { mode = "nearest", alignCorners = false, antialias = false } = options;
  if (!(mode in ranks))
    throw new Error(
      `interpolate: unknown mode ${mode}: expected ${Object.keys(ranks)
        .join(", ")
        .replace(/, (?=[^,]*$)/, " or ")}`,
    );
  const rank = x.ndim - 2;
  if (!ranks[mode].includes(rank))
    throw new Error(
      `interpolate: mode ${mode} of ${show(x.shape)}: expected [N, C, ...] with ${ranks[mode].join(", ")} spatial dim(s)`,
    );
  if (!isFloat(x.dtype)) throw new TypeError(`interpolate: input ${show(x.shape)} is ${x.dtype}: cast it with float()`);
  const smooth = ["linear", "bilinear", "bicubic", "trilinear"].includes(mode);
  if (alignCorners && !smooth) throw new Error(`interpolate: mode ${mode} has no alignCorners`);
  if (antialias && mode !== "bilinear" && mode !== "bicubic")
    throw new Error(`interpolate: mode ${mode} has no antialias`);
  const dims = dimsOf(x, options);
  return dims.reduce((t, dim, d) => {
    if (mode === "area") return averageTo(t, d + 2, dim.output);
    return smooth
      ? weighted(t, d + 2, taps(dim, mode, alignCorners, antialias))
      : t.indexSelect(d + 2, tensor(Int32Array.from(nearest(dim, mode === "nearest-exact" ? 0.5 : 0))));
  }, x);
}

function dimsOf(x: Tensor, { size, scaleFactor }: InterpolateOptions): Dim[] {
  const inputs = x.shape.slice(2);
  if ((size === undefined) === (scaleFactor === undefined))
    throw new Error(`interpolate: expected either size or scaleFactor for ${show(x.shape)}`);
  const given = size ?? scaleFactor!;
  const list = typeof given === "number" ? inputs.map(() => given) : given;
  if (list.length !== inputs.length)
    throw new RangeError(
      `interpolate: ${size ? "size" : "scaleFactor"} ${show(list)} for ${show(x.shape)}: expected ${inputs.length} number(s)`,
    );
  const outputs = size === undefined ? list.map((f, d) => Math.floor(inputs[d] * f)) : list;
  if (!outputs.every((n) => Number.isInteger(n) && n > 0))
    throw new RangeError(
      size === undefined
        ? `interpolate: scaleFactor ${show(list)} of ${show(x.shape)} gives sizes ${show(outputs)}: expected at least 1`
        : `interpolate: size must be positive integers, got ${show(outputs)}`,
    );
  return inputs.map((input, d) => ({
    input,
    output: outputs[d],
    scale: size === undefined ? 1 / list[d] : input / outputs[d],
  }));
}

/** Positions of the nearest elements. */
const nearest = ({ input, output, scale }: Dim, offset: number): number[] =>
  Array.from({ length: output }, (_, i) => {
    // i * input / output is exact where it is whole; i * scale may round below.
    const at = scale === input / output ? ((i + offset) * input) / output : (i + offset) * scale;
    return Math.min(Math.floor(at), input - 1);
  });

/** Elements that an output element reads, and their weights. */
type Taps = readonly (readonly (readonly [position: number, weight: number])[])[];

function taps(dim: Dim, mode: Mode, alignCorners: boolean, antialias: boolean): Taps {
  const bicubic = mode === "bicubic";
  const filter = bicubic ? cubic(antialias ? -0.5 : -0.75) : triangle;
  const support = bicubic ? 2 : 1;
  const { input, output } = dim;
  const scale = alignCorners ? (output > 1 ? (input - 1) / (output - 1) : 0) : dim.scale;
  return Array.from({ length: output }, (_, i) =>
    antialias
      ? antialiased(i, input, scale, filter, support)
      : pointwise(alignCorners ? scale * i : scale * (i + 0.5) - 0.5, input, filter, support),
  );
}

const triangle = (t: number): number => Math.max(0, 1 - Math.abs(t));
/** Cubic convolution kernel (Keys 1981). */
const cubic =
  (a: number) =>
  (t: number): number => {
    const d = Math.abs(t);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
  };

type Filter = (t: number) => number;

/** A filter of fixed width at position `at`. Positions outside read the border element. */
function pointwise(at: number, input: number, filter: Filter, support: number): Taps[number] {
  const centre = support === 1 ? Math.max(at, 0) : at;
  const left = Math.floor(centre) - support + 1;
  return Array.from({ length: 2 * support }, (_, j) => [
    Math.min(Math.max(left + j, 0), input - 1),
    filter(centre - left - j),
  ]);
}

/** A filter that widens as the image shrinks. The weights sum to 1 inside the image. */
function antialiased(i: number, input: number, scale: number, filter: Filter, support: number): Taps[number] {
  const stretch = Math.max(scale, 1);
  const centre = scale * (i + 0.5);
  const start = Math.max(Math.trunc(centre - support * stretch + 0.5), 0);
  const end = Math.min(Math.trunc(centre + support * stretch + 0.5), input);
  const weights = Array.from({ length: end - start }, (_, j) => filter((j + start - centre + 0.5) / stretch));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w, j) => [start + j, w / total]);
}

/** Weighted sums of elements along `dim`. An element of weight 0 takes no part, even if it is NaN or infinite. */
function weighted(x: Tensor, dim: number, rows: Taps): Tensor {
  const parts = rows.map((row) => merged(row));
  const longest = Math.max(...parts.map((row) => row.length));
  const filled = parts.map((row) => [...row, ...new Array(longest - row.length).fill([row[0][0], 0])] as typeof row);
  const at = tensor(Int32Array.from(filled.flat(), ([position]) => position));
  const tail = x.shape.slice(dim + 1).map(() => 1);
  const weights = tensor(
    Float32Array.from(filled.flat(), ([, weight]) => weight),
    {
      shape: [rows.length, longest, ...tail],
    },
  );
  const read = x
    .to("f32")
    .indexSelect(dim, at)
    .reshape([...x.shape.slice(0, dim), rows.length, longest, ...x.shape.slice(dim + 1)]);
  return where(weights.eq(0), 0, read.mul(weights))
    .sum(dim + 1)
    .to(x.dtype);
}

/** Adds up the weights of equal positions, and drops weights of 0. */
function merged(row: Taps[number]): [number, number][] {
  const sums = new Map<number, number>();
  for (const [position, weight] of row) sums.set(position, (sums.get(position) ?? 0) + weight);
  return [...sums].filter(([, weight]) => weight !== 0);
}
