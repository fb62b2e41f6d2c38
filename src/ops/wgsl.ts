import { floatLiteral } from "../graph/dtype.ts";
import { suffix } from "./constant.ts";
import { isNanWgsl, signed, words } from "./math.ts";

/**
 * WGSL functions of floats, for `type` "f32" or "vec4f", with errors of a few units in the last place. WGSL allows its own
 * functions to miss far more: 4096 units in atan, 6.8e-5 in asin, 4.8e-7 in log near 1. Halves are computed in f32 (`cost`
 * from 8 on). Polynomials are fitted for the least relative error on the interval that their comment names.
 */
export type Helper = (type: string) => string;

/** WGSL of a polynomial in `z` by Horner's rule. Coefficients start with the constant term. */
export const polynomial = (type: string, z: string, coefficients: readonly number[]): string =>
  coefficients
    .slice(0, -1)
    .reduceRight(
      (sum, c) => `fma(${sum}, ${z}, ${constant(type, c)})`,
      constant(type, coefficients[coefficients.length - 1]),
    );

const constant = (type: string, c: number): string => `${type}(${floatLiteral(c)})`;

/** fn bits_T(words) -> T: infinities and NaN, which WGSL refuses as constants. */
export const bits: Helper = (type) =>
  `fn bits_${suffix(type)}(word: u32) -> ${type} { return ${type}(bitcast<f32>(word)); }`;
export const infinity = (type: string): string => `bits_${suffix(type)}(0x7f800000u)`;
export const minusInfinity = (type: string): string => `bits_${suffix(type)}(0xff800000u)`;
export const nan = (type: string): string => `bits_${suffix(type)}(0x7fc00000u)`;

/** WGSL: the size of `x` with the sign bit of `y`, that of zeros too. */
export const copySign = (type: string, x: string, y: string): string =>
  `bitcast<${type}>((bitcast<${words(type)}>(${x}) & ${words(type)}(0x7fffffffu)) | (bitcast<${words(type)}>(${y}) & ${words(type)}(0x80000000u)))`;

// (e^r - 1 - r) / r² for |r| <= ln(2) / 2: 8.6e-9.
const EXP = [
  0.5, 0.1666666567325592, 0.04166644811630249, 0.00833356287330389, 0.001393453567288816, 0.0001972375757759437,
];

/** e^r 2^n for |r| <= ln(2) / 2 and a whole |n| < 254: the scale is applied in two parts, as one may overflow. */
const scaledExponential = (type: string): string => {
  const i = signed(type);
  return `  let p = 1.0 + (r + r * r * ${polynomial(type, "r", EXP)});
  let low = ${i}(n) >> ${words(type)}(1u);
  let high = ${i}(n) - low;
  let y = p * bitcast<${type}>((low + ${i}(127)) << ${words(type)}(23u)) * bitcast<${type}>((high + ${i}(127)) << ${words(type)}(23u));
  return select(y, x, ${isNanWgsl("x", type)});`;
};

/** fn exponential_T(x) = e^x. */
export const exponential: Helper = (type) => `fn exponential_${suffix(type)}(x: ${type}) -> ${type} {
  let within = clamp(x, ${type}(-104.0), ${type}(89.0));
  let n = round(within * 1.44269504);
  let r = (within - n * 0.693359375) + n * 2.12194440e-4; // ln 2 in two parts; the first product is exact
${scaledExponential(type)}
}`;

/** fn exponential2_T(x) = 2^x; exact for whole x. */
export const exponential2: Helper = (type) => `fn exponential2_${suffix(type)}(x: ${type}) -> ${type} {
  let within = clamp(x, ${type}(-150.0), ${type}(129.0));
  let n = round(within);
  let r = (within - n) * 0.69314718;
${scaledExponential(type)}
}`;

// (e^h - 1) / h for |h| <= 1/2: 8.1e-10.
const EXPM1 = [
  1, 0.5, 0.1666666716337204, 0.041666656732559204, 0.00833314098417759, 0.0013889555120840669, 0.00019973980670329183,
  0.00002473748281772714,
];

/** fn exp_minus_one_T(x) = e^x - 1, accurate near 0: (e^h - 1)(e^h + 1) with h = x / 2. Needs `exponential`. */
export const expMinusOne: Helper = (type) => `fn exp_minus_one_${suffix(type)}(x: ${type}) -> ${type} {
  let h = clamp(x, ${type}(-1.0), ${type}(1.0)) * 0.5;
  let m = h * ${polynomial(type, "h", EXPM1)};
  return select(exponential_${suffix(type)}(x) - 1.0, m * (m + 2.0), abs(x) < ${type}(1.0));
}`;

// artanh(s) / s in z = s², for z <= 0.0295: 3.4e-11.
const ARTANH = [1, 0.3333333134651184, 0.20000384747982025, 0.14257945120334625, 0.1195860207080841];

/**
 * A logarithm by u = 2^e m with m in [√½, √2), and ln m = 2 artanh((m - 1) / (m + 1)). `less` is m - 1 where e is 0.
 * `result` combines e and l = ln m.
 */
const logarithmOf = (name: string, type: string, u: string, less: string, result: string): string => {
  const [i, w] = [signed(type), words(type)];
  const s = suffix(type);
  return `fn ${name}_${s}(x: ${type}) -> ${type} {
  let u = ${u};
  let tiny = u < ${type}(1.1754944e-38);
  let word = bitcast<${i}>(select(u, u * 8388608.0, tiny));
  let exponent = (word - ${i}(0x3f3504f3)) >> ${w}(23u);
  let m = bitcast<${type}>(word - (exponent << ${w}(23u)));
  let near = exponent == ${i}();
  let f = select(m - 1.0, ${less}, near & !tiny);
  let e = ${type}(exponent) - select(${type}(), ${type}(23.0), tiny);
  let s = f / (f + 2.0);
  let z = s * s;
  let l = 2.0 * s * ${polynomial(type, "z", ARTANH)};
  var y = ${result};
  y = select(y, x, !(u <= ${type}(3.4028234e38)));
  y = select(y, ${minusInfinity(type)}, u == ${type}());
  return select(y, ${nan(type)}, u < ${type}());
}`;
};
/** fn logarithm_T(x) = ln x. Needs `bits`. */
export const logarithm: Helper = (type) =>
  logarithmOf("logarithm", type, "x", "x - 1.0", "(l - e * 2.12194440e-4) + e * 0.693359375");
/** fn log_one_plus_T(x) = ln(1 + x), accurate near 0. Needs `bits`. */
export const logOnePlus: Helper = (type) =>
  logarithmOf("log_one_plus", type, "1.0 + x", "x", "(l - e * 2.12194440e-4) + e * 0.693359375");
/** fn logarithm2_T(x) = log2 x; exact for powers of 2. Needs `bits`. */
export const logarithm2: Helper = (type) => logarithmOf("logarithm2", type, "x", "x - 1.0", "e + l * 1.44269504");
/** fn logarithm10_T(x) = log10 x. Needs `bits`. */
export const logarithm10: Helper = (type) =>
  logarithmOf("logarithm10", type, "x", "x - 1.0", "(l * 0.43429448 + e * 4.60503898e-6) + e * 0.301025390625");
