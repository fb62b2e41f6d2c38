import type { Tensor } from "../tensor/tensor.ts";
import { float, row, where } from "./elementwise.ts";
import { bitsWgsl, isNanWgsl, words } from "./math.ts";

// Tests for NaN and infinities. All read the bits: WGSL lets a compiler assume that x == x.

type Test = (x: Tensor) => Tensor;

const test = (name: string, wgsl: (x: string, type: string) => string, js: (x: number) => boolean): Test =>
  row({
    name,
    rule: (x) => ({ args: float(x).args, out: "bool" }),
    operandTyped: true,
    wgsl: ([x], _, type) => wgsl(x, type),
    js: (x) => Number(js(x)),
  });

const INFINITY = "0x7f800000u";
const magnitude = (x: string, type: string): string => `(${bitsWgsl(x, type)} & ${words(type)}(0x7fffffffu))`;

/** True where x is NaN. Integers are not. */
export const isnan = test("isnan", isNanWgsl, Number.isNaN);
/** True where x is ∞ or -∞. */
export const isinf = test(
  "isinf",
  (x, type) => `(${magnitude(x, type)} == ${words(type)}(${INFINITY}))`,
  (x) => Math.abs(x) === Infinity,
);
/** True where x is neither infinite nor NaN. */
export const isfinite = test(
  "isfinite",
  (x, type) => `(${magnitude(x, type)} < ${words(type)}(${INFINITY}))`,
  Number.isFinite,
);
/** True where x is ∞. */
export const isposinf = test(
  "isposinf",
  (x, type) => `(${bitsWgsl(x, type)} == ${words(type)}(${INFINITY}))`,
  (x) => x === Infinity,
);
/** True where x is -∞. */
export const isneginf = test(
  "isneginf",
  (x, type) => `(${bitsWgsl(x, type)} == ${words(type)}(0xff800000u))`,
  (x) => x === -Infinity,
);
/** True where the sign bit is set: x < 0, and -0. */
export const signbit = test(
  "signbit",
  (x, type) => `((${bitsWgsl(x, type)} >> ${words(type)}(31u)) == ${words(type)}(1u))`,
  (x) => x < 0 || Object.is(x, -0),
);

export interface NanToNum {
  /** Replaces NaN. Default 0. */
  nan?: number;
  /** Replaces ∞. Default: the largest finite value of the dtype. */
  posinf?: number;
  /** Replaces -∞. Default: the lowest finite value of the dtype. */
  neginf?: number;
}

/** x with NaN and infinities replaced. Their gradient is 0. Integers stay as they are. */
export function nanToNum(x: Tensor, options: NanToNum = {}): Tensor {
  for (const name of Object.keys(options))
    if (!["nan", "posinf", "neginf"].includes(name))
      throw new TypeError(`nanToNum: unknown option ${name}: expected nan, posinf or neginf`);
  if (x.dtype !== "f32" && x.dtype !== "f16") return x;
  const largest = x.dtype === "f16" ? 65504 : 3.4028234663852886e38;
  const { nan = 0, posinf = largest, neginf = -largest } = options;
  return where(isnan(x), nan, where(isposinf(x), posinf, where(isneginf(x), neginf, x)));
}
