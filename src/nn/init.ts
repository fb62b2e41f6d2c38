import { drawSeed, mix } from "../graph/generator.ts";
import { checkOptions } from "../graph/options.ts";
import { numel, type Shape, show } from "../graph/shape.ts";
import { tensor, zeros as zerosOf } from "../ops/functional.ts";
import { normalCdf } from "../ops/math.ts";
import { Tensor } from "../tensor/tensor.ts";
import { setParameter } from "./parameter.ts";

// The host draws initial values, so that a seed gives the same weights, bit for bit, on every adapter.

/** What an initialiser fills: a new trainable tensor of a shape, or an existing tensor, in place. */
type Target = Shape | Tensor;

/** Uniform numbers in [0, 1) with 32 random bits. Depends on the seed and on the streams taken since `manualSeed`. */
function uniformStream(): () => number {
  let counter = drawSeed();
  return () => mix((counter = (counter + 0x9e3779b9) >>> 0)) / 2 ** 32;
}

let skipInit = false;

/**
 * Runs `make` with all initial values zero, for models whose weights are loaded next. The zeros take no memory.
 * @example const model = withoutInit(() => new Linear(4096, 4096))
 */
export function withoutInit<T>(make: () => T): T {
  const before = skipInit;
  skipInit = true;
  try {
    return make();
  } finally {
    skipInit = before;
  }
}

/** Draws one value from generators of uniform and of standard normal numbers. */
type Draw = (uniform: () => number, normal: () => number) => number;

function draws(count: number, draw: Draw): Float32Array {
  const next = uniformStream();
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()); // Box-Muller transform
  const data = new Float32Array(count);
  for (let i = 0; i < count; i++) data[i] = draw(next, normal);
  return data;
}

const shapeOf = (target: Target): Shape => (target instanceof Tensor ? target.shape : target);

/** Fills the target with values that `make` computes. Nothing is computed inside `withoutInit`. */
function fill(target: Target, make: () => Float32Array): Tensor {
  const shape = shapeOf(target);
  if (skipInit) return target instanceof Tensor ? target : zerosOf(shape).requiresGrad_();
  if (!(target instanceof Tensor)) return tensor(make(), { shape, requiresGrad: true });
  setParameter(target, { data: make(), shape, dtype: "f32" });
  return target;
}

const drawn = (target: Target, draw: Draw): Tensor => fill(target, () => draws(numel(shapeOf(target)), draw));

/** @throws unless all numbers are finite. */
function checkFinite(op: string, numbers: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(numbers))
    if (!Number.isFinite(value)) throw new RangeError(`${op}: ${name} must be finite, got ${value}`);
}

// Every initialiser takes a shape, and returns a new trainable tensor; or a tensor, which gets the values in place and is
// returned. Names and defaults are those of torch.nn.init.

/** Fills with `value`. */
export function constant(target: Target, value: number): Tensor {
  return drawn(target, () => value);
}

/** Fills with 0. */
export const zeros = (target: Target): Tensor => constant(target, 0);

/** Fills with 1. */
export const ones = (target: Target): Tensor => constant(target, 1);

/**
 * Fills with uniform values in [a, b), by default [0, 1). A number `bound` is short for [-bound, bound).
 * @example uniform([8, 4], { a: -0.1, b: 0.1 }), uniform(layer.weight, 0.1)
 * @throws if a > b.
 */
export function uniform(target: Target, range: number | { a?: number; b?: number } = {}): Tensor {
  if (typeof range === "object") checkOptions("uniform", range, ["a", "b"]);
  const { a = 0, b = 1 } = typeof range === "number" ? { a: -range, b: range } : range;
  checkFinite("uniform", { a, b });
  if (a > b) throw new RangeError(`uniform: expected a <= b, got [${a}, ${b})`);
  return drawn(target, (next) => a + (b - a) * next());
}

/**
 * Fills with normal values of the given mean (default 0) and standard deviation (default 1). A number is the deviation.
 * @example normal([8, 4], { mean: 1, std: 0.1 }), normal(layer.weight, 0.02)
 * @throws if std is negative.
 */
export function normal(target: Target, spread: number | { mean?: number; std?: number } = {}): Tensor {
  if (typeof spread === "object") checkOptions("normal", spread, ["mean", "std"]);
  const { mean = 0, std = 1 } = typeof spread === "number" ? { std: spread } : spread;
  checkSpread("normal", mean, std);
  return drawn(target, (_, next) => mean + std * next());
}

function checkSpread(op: string, mean: number, std: number): void {
  checkFinite(op, { mean, std });
  if (std < 0) throw new RangeError(`${op}: std must not be negative, got ${std}`);
}

/**
 * Fills with normal values; those outside [a, b] (default mean ± 2) are drawn again. With a number for the deviation, the
 * limits are ±`limit` deviations.
 * @example truncatedNormal([8, 4], { std: 0.5, a: -1, b: 1 }), truncatedNormal(layer.weight, 0.02)
 * @throws if less than a thousandth of the distribution lies in [a, b].
 */
export function truncatedNormal(
  target: Target,
  spread: number | { mean?: number; std?: number; a?: number; b?: number } = {},
  limit = 2,
): Tensor {
  if (typeof spread === "object") checkOptions("truncatedNormal", spread, ["mean", "std", "a", "b"]);
  const options = typeof spread === "number" ? { std: spread, a: -limit * spread, b: limit * spread } : spread;
  const { mean = 0, std = 1, a = -2, b = 2 } = options;
  checkSpread("truncatedNormal", mean, std);
  checkFinite("truncatedNormal", { a, b });
  const inside = normalCdf((b - mean) / std) - normalCdf((a - mean) / std);
  if (!(a <= b) || (std > 0 && inside < 1e-3) || (std === 0 && (mean < a || mean > b)))
    throw new RangeError(
      `truncatedNormal: mean ${mean} and std ${std} give almost no values in [${a}, ${b}]: expected a wider range`,
    );
  return drawn(target, (_, next) => {
    for (;;) {
      const value = mean + std * next();
      if (value >= a && value <= b) return value;
    }
  });
}

/** Ones on the diagonal of a matrix, else 0. @throws unless the target has two dims. */
export function eye(target: Target): Tensor {
  const shape = shapeOf(target);
  if (shape.length !== 2) throw new Error(`eye: expected a matrix, got ${show(shape)}`);
  return fill(target, () => diagonal(shape, 1, 0));
}

/**
 * Makes a convolution weight [out, in/groups, ...] keep its input: a 1 in the centre of as many channels as fit.
 * @throws unless the target has 3 to 5 dims, and `groups` divides the output channels.
 */
export function dirac(target: Target, groups = 1): Tensor {
  const shape = shapeOf(target);
  if (shape.length < 3 || shape.length > 5)
    throw new Error(`dirac: expected a convolution weight of 3 to 5 dims, got ${show(shape)}`);
  if (!Number.isInteger(groups) || groups < 1 || shape[0] % groups)
    throw new RangeError(`dirac: groups must divide the ${shape[0]} output channels, got ${groups}`);
  const sizes = shape.slice(2);
  const centre = sizes.reduce((at, size) => at * size + Math.floor(size / 2), 0);
  return fill(target, () => diagonal([shape[0], shape[1], numel(sizes)], groups, centre));
}

/** [rows, columns, size] with ones at [g · rows/groups + i, i, at]. */
function diagonal([rows, columns, size = 1]: Shape, groups: number, at: number): Float32Array {
  const data = new Float32Array(rows * columns * size);
  const perGroup = rows / groups;
  for (let row = 0; row < rows; row++) {
    const i = row % perGroup;
    if (i < columns) data[(row * columns + i) * size + at] = 1;
  }
  return data;
}

/** Functions whose gain `calculateGain` knows. */
export type GainName =
  | "linear"
  | "conv1d"
  | "conv2d"
  | "conv3d"
  | "sigmoid"
  | "tanh"
  | "relu"
  | "leakyRelu"
  | "leaky_relu"
  | "selu";

/**
 * The factor by which a weight before this function is scaled, so that values keep their size.
 * @param slope negative slope of leakyRelu; default 0.01
 * @throws on an unknown name.
 */
export function calculateGain(nonlinearity: GainName, slope = 0.01): number {
  if (nonlinearity === "tanh") return 5 / 3;
  if (nonlinearity === "relu") return Math.SQRT2;
  if (nonlinearity === "leakyRelu" || nonlinearity === "leaky_relu") return Math.sqrt(2 / (1 + slope ** 2));
  if (nonlinearity === "selu") return 3 / 4;
  if (["linear", "conv1d", "conv2d", "conv3d", "sigmoid"].includes(nonlinearity)) return 1;
  throw new Error(
    `calculateGain: unknown nonlinearity "${nonlinearity}": expected linear, conv1d, conv2d, conv3d, sigmoid, tanh, relu, leakyRelu or selu`,
  );
}

/** Inputs and outputs that each element of a weight [out, in, ...] connects. */
function fans(op: string, shape: Shape): { fanIn: number; fanOut: number } {
  if (shape.length < 2)
    throw new Error(`${op}: expected a weight of at least two dims, [out, in, ...], got ${show(shape)}`);
  const field = numel(shape.slice(2));
  return { fanIn: shape[1] * field, fanOut: shape[0] * field };
}

/** Options of the Kaiming initialisers (arXiv 1502.01852). */
export interface FanOptions {
  /** Negative slope of the leaky ReLU that follows. Default 0. */
  a?: number;
  /** Keeps the size of values ("fanIn", default) or of gradients ("fanOut"). */
  mode?: "fanIn" | "fanOut";
  /** The function that follows. Default leakyRelu. */
  nonlinearity?: GainName;
}

function kaimingStd(op: string, target: Target, options: FanOptions): number {
  checkOptions(op, options, ["a", "mode", "nonlinearity"]);
  const { a = 0, mode = "fanIn", nonlinearity = "leakyRelu" } = options;
  if (mode !== "fanIn" && mode !== "fanOut") throw new Error(`${op}: unknown mode "${mode}": expected fanIn or fanOut`);
  checkFinite(op, { a });
  return calculateGain(nonlinearity, a) / Math.sqrt(fans(op, shapeOf(target))[mode]);
}

/** Fills a weight [out, in, ...] with uniform values in ±gain √(3 / fan) (arXiv 1502.01852). */
export function kaimingUniform(target: Target, options: FanOptions = {}): Tensor {
  return uniform(target, Math.sqrt(3) * kaimingStd("kaimingUniform", target, options));
}

/** Fills a weight [out, in, ...] with normal values of deviation gain / √fan (arXiv 1502.01852). */
export function kaimingNormal(target: Target, options: FanOptions = {}): Tensor {
  return normal(target, kaimingStd("kaimingNormal", target, options));
}

function xavierStd(op: string, target: Target, gain: number): number {
  const { fanIn, fanOut } = fans(op, shapeOf(target));
  checkFinite(op, { gain });
  return gain * Math.sqrt(2 / (fanIn + fanOut));
}

/** Fills a weight [out, in, ...] with uniform values in ±gain √(6 / (fanIn + fanOut)) (Glorot and Bengio 2010). */
export function xavierUniform(target: Target, { gain = 1 }: { gain?: number } = {}): Tensor {
  return uniform(target, Math.sqrt(3) * xavierStd("xavierUniform", target, gain));
}

/** Fills a weight [out, in, ...] with normal values of deviation gain √(2 / (fanIn + fanOut)) (Glorot and Bengio 2010). */
export function xavierNormal(target: Target, { gain = 1 }: { gain?: number } = {}): Tensor {
  return normal(target, xavierStd("xavierNormal", target, gain));
}

/**
 * Fills with a random (semi-)orthogonal matrix times `gain` (arXiv 1312.6120). Dims after the first count as columns.
 * @throws if the target has fewer than two dims.
 */
export function orthogonal(target: Target, { gain = 1 }: { gain?: number } = {}): Tensor {
  const shape = shapeOf(target);
  if (shape.length < 2) throw new Error(`orthogonal: expected at least two dims, got ${show(shape)}`);
  checkFinite("orthogonal", { gain });
  const [rows, columns] = [shape[0], numel(shape.slice(1))];
  return fill(target, () => {
    const [count, length] = [Math.min(rows, columns), Math.max(rows, columns)];
    const vectors = orthonormal(Float64Array.from(draws(count * length, (_, next) => next())), count, length);
    const data = new Float32Array(rows * columns);
    for (let i = 0; i < count; i++)
      for (let j = 0; j < length; j++)
        data[rows <= columns ? i * columns + j : j * columns + i] = gain * vectors[i * length + j];
    return data;
  });
}

/** Makes `count` rows of `length` orthonormal, by the Gram-Schmidt process. Each row is projected twice, for f64 precision. */
function orthonormal(v: Float64Array, count: number, length: number): Float64Array {
  const row = (i: number): Float64Array => v.subarray(i * length, (i + 1) * length);
  const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, x, j) => sum + x * b[j], 0);
  for (let i = 0; i < count; i++) {
    const own = row(i);
    for (let pass = 0; pass < 2; pass++) {
      for (let k = 0; k < i; k++) {
        const other = row(k);
        const along = dot(own, other);
        for (let j = 0; j < length; j++) own[j] -= along * other[j];
      }
    }
    const norm = Math.sqrt(dot(own, own));
    for (let j = 0; j < length; j++) own[j] /= norm;
  }
  return v;
}
