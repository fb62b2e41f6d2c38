// Scalar functions of the elementwise ops: f64 for the reference, and WGSL helpers.

/** Rounds half to even. */
export function round(x: number): number {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** sqrt(2 / pi), in the tanh form of GELU. */
export const GELU_K = Math.sqrt(2 / Math.PI);

export const normalPdf = (x: number): number => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
export const normalCdf = (x: number): number => 0.5 * (1 + erf(x / Math.SQRT2));

/** Error function in f64 by Abramowitz & Stegun 7.1.6. All terms of this series have one sign, so nothing cancels. */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return sum === 0 ? 0 : (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** WGSL of a polynomial in z by Horner's rule. Coefficients start with the constant term. */
const polynomial = (type: string, c: readonly string[]): string =>
  c.reduceRight((sum, a) => `fma(${sum}, z, ${type}(${a}))`, "").replace("fma(, z, ", "(");

/**
 * Error function in f32 as x P(x²) / Q(x²): one division, no exponential. Fitted for relative error on [0, 3.8325] (1.4e-8;
 * 3.4e-7 in f32 arithmetic). Above that, erf rounds to 1.
 */
export function erfWgsl(type: string): string {
  const p = ["1.12837915", "0.18729792", "0.0524172031", "0.0036523227", "2.85936125e-4", "2.12324399e-6"];
  const q = ["1.0", "0.499321366", "0.112896243", "0.0147416294", "0.00114160773", "3.88990739e-5"];
  return rational("erf", type, "3.8325", p, q);
}

/** tanh in f32, in the same form on [-8, 8] (error 3.3e-7). No exponential can overflow. */
export function tanhWgsl(type: string): string {
  const p = ["0.999999994", "0.134445029", "3.57160382e-3", "2.18947547e-5", "1.52305434e-8"];
  const q = ["1.0", "0.467778303", "2.61644652e-2", "3.41130137e-4", "8.52249853e-7"];
  return rational("tanh", type, "8.0", p, q);
}

/** WGSL of fn name(x) = x P(x²) / Q(x²), with x clamped to [-end, end]. */
const rational = (name: string, type: string, end: string, p: readonly string[], q: readonly string[]): string =>
  `fn ${name}_${type}(x: ${type}) -> ${type} {
  let y = clamp(x, ${type}(-${end}), ${type}(${end}));
  let z = y * y;
  return y * ${polynomial(type, p)} / ${polynomial(type, q)};
}`;

// ---- NaN in WGSL --------------------------------------------------------------------------------
// WGSL lets a compiler assume that NaN does not occur: max(NaN, x) may be x, and x != x may be false. These read the bits.

/** WGSL type of the bits of a float `type`: one u32 per component. Halves are widened first. */
export const words = (type: string): string => (type.startsWith("vec4") ? "vec4u" : "u32");

/** The bits of `x` as an f32. */
export function bitsWgsl(x: string, type: string): string {
  if (type === "f16") return `bitcast<u32>(f32(${x}))`;
  return type.includes("f16") ? `bitcast<vec4u>(vec4f(${x}))` : `bitcast<${words(type)}>(${x})`;
}

/** Whether `x` is NaN, per component. */
export const isNanWgsl = (x: string, type: string): string =>
  `((${bitsWgsl(x, type)} & ${words(type)}(0x7fffffffu)) > ${words(type)}(0x7f800000u))`;
