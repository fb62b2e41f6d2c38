// Scalar functions behind the elementwise rows: f64 versions for the reference, WGSL helpers.

/** Half to even. */
export function round(x: number): number {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** sqrt(2 / pi), of the tanh form of GELU. */
export const GELU_K = Math.sqrt(2 / Math.PI);

export const normalPdf = (x: number): number => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
export const normalCdf = (x: number): number => 0.5 * (1 + erf(x / Math.SQRT2));

/** Error function in f64: its series, all of whose terms have one sign (Abramowitz & Stegun 7.1.6). */
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

/** 32-bit mixer of the random number generator; the same as in the WGSL of `rand`. */
export function mix(x: number): number {
  const a = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  const b = Math.imul(a ^ (a >>> 15), 0x846ca68b);
  return (b ^ (b >>> 16)) >>> 0;
}

/**
 * Error function in f32: x P(x²) / Q(x²), fitted to the least relative error (1.4e-8; 3.4e-7 in f32 arithmetic)
 * up to 3.8325, from where on erf is 1 to f32. One division, no exponential.
 */
export function erfWgsl(type: string): string {
  const polynomial = (c: string[]): string =>
    c.reduceRight((sum, a) => `fma(${sum}, z, ${type}(${a}))`, "").replace("fma(, z, ", "(");
  const p = polynomial(["1.12837915", "0.18729792", "0.0524172031", "0.0036523227", "2.85936125e-4", "2.12324399e-6"]);
  const q = polynomial(["1.0", "0.499321366", "0.112896243", "0.0147416294", "0.00114160773", "3.88990739e-5"]);
  return `fn erf_${type}(x: ${type}) -> ${type} {
  let y = clamp(x, ${type}(-3.8325), ${type}(3.8325));
  let z = y * y;
  return y * ${p} / ${q};
}`;
}
