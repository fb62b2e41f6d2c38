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

export function erfWgsl(type: string): string {
  return `fn erf_${type}(x: ${type}) -> ${type} {
  let a = abs(x);
  let t = 1.0 / (1.0 + 0.3275911 * a);
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(x) * (1.0 - p * exp(-a * a));
}`;
}
