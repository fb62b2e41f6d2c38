import { isFloatType } from "../graph/dtype.ts";
import { isNanWgsl, signed, suffix, words } from "../graph/nan.ts";

export { bitsWgsl, extremeHelper, extremeWgsl, isNanWgsl, signed, signedBitsWgsl, words } from "../graph/nan.ts";

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

/** a^b as torch has it: in JavaScript 1^NaN and (-1)^∞ are NaN. */
export function power(a: number, b: number): number {
  if (a === 1 || (a === -1 && Math.abs(b) === Infinity)) return 1;
  return a ** b;
}

/** a^b modulo 2^32 of integers. Below 0, b gives the reciprocal, truncated. */
export function integerPower(a: number, b: number): number {
  if (b < 0) return a === 1 ? 1 : a === -1 ? (b % 2 === 0 ? 1 : -1) : 0;
  let result = 1;
  for (let [factor, rest] = [a, b]; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = Math.imul(result, factor);
    factor = Math.imul(factor, factor);
  }
  return result;
}

// ---- functions in WGSL --------------------------------------------------------------------------

/** WGSL of a polynomial in `z` by Horner's rule. Coefficients start with the constant term. */
const polynomial = (type: string, c: readonly string[], z = "z"): string =>
  c.reduceRight((sum, a) => `fma(${sum}, ${z}, ${type}(${a}))`, "").replace(`fma(, ${z}, `, "(");

const ERF_P = ["1.12837915", "0.18729792", "0.0524172031", "0.0036523227", "2.85936125e-4", "2.12324399e-6"];
const ERF_Q = ["1.0", "0.499321366", "0.112896243", "0.0147416294", "0.00114160773", "3.88990739e-5"];
/**
 * Error function in f32 as x P(x²) / Q(x²): one division, no exponential. Fitted for relative error on [0, 3.8325] (1.4e-8;
 * 3.4e-7 in f32 arithmetic). Above that, erf rounds to 1.
 */
export const erfWgsl = (type: string): string => `fn erf_${type}(x: ${type}) -> ${type} {
  let y = clamp(x, ${type}(-3.8325), ${type}(3.8325));
  let z = y * y;
  let within = y * ${polynomial(type, ERF_P)} / ${polynomial(type, ERF_Q)};
  return select(select(within, sign(x), abs(x) > ${type}(3.8325)), x, ${isNanWgsl("x", type)});
}`;

const TANH_P = ["0.999999994", "0.134445029", "3.57160382e-3", "2.18947547e-5", "1.52305434e-8"];
const TANH_Q = ["1.0", "0.467778303", "2.61644652e-2", "3.41130137e-4", "8.52249853e-7"];
/**
 * tanh in f32 as x P(x²) / Q(x²) on [-8, 8], where it lacks four units in the last place of 1. Beyond 8.35 it is 1, which is at
 * most two units off.
 */
export const tanhWgsl = (type: string): string => `fn tanh_${type}(x: ${type}) -> ${type} {
  let y = clamp(x, ${type}(-8.0), ${type}(8.0));
  let z = y * y;
  let value = select(y * ${polynomial(type, TANH_P)} / ${polynomial(type, TANH_Q)}, sign(y), abs(x) > ${type}(8.35));
  return select(value, x, ${isNanWgsl("x", type)});
}`;

// artanh(s) / s in s², fitted on [0, 1/9] (2.2e-10): log(1 + t) = 2 artanh(t / (2 + t)) for t in [0, 1].
const ARTANH = ["1.0", "0.333333415", "0.199992784", "0.143112185", "0.106936932", "0.122005295"];
/** log(1 + e^x) as max(x, 0) + log(1 + t), where t = e^-|x|. log(1 + t) keeps the digits of a small t, and gives NaN for NaN. */
export const softplusWgsl = (type: string): string => `fn softplus_${type}(x: ${type}) -> ${type} {
  let t = exp(-abs(x));
  let s = t / (t + 2.0);
  let z = s * s;
  return max(x, ${type}()) + 2.0 * s * ${polynomial(type, ARTANH)};
}`;

/**
 * Remainder with the sign of the divisor. Floats: exact. Quotients of up to 10 bits are multiplied back by the two halves of b,
 * without rounding; others divide the mantissas.
 */
export function remainderWgsl(type: string): string | readonly string[] {
  const name = `remainder_${suffix(type)}`;
  if (type === "u32" || type === "vec4u") return `fn ${name}(a: ${type}, b: ${type}) -> ${type} { return a % b; }`;
  if (!isFloatType(type))
    return `fn ${name}(a: ${type}, b: ${type}) -> ${type} {
  let rest = a % b;
  return select(rest, rest + b, (rest != ${type}()) & ((rest ^ b) < ${type}()));
}`;
  const slow = ["x", "y", "z", "w"].map((c) => `long_remainder(a.${c}, b.${c})`).join(", ");
  const [long, call] = type === "f32" ? ["!short", "long_remainder(a, b)"] : ["!all(short)", `${type}(${slow})`];
  const word = words(type);
  const short = `fn ${name}(a: ${type}, b: ${type}) -> ${type} {
  let q = round(a / b);
  let size = abs(b);
  let short = (abs(q) < ${type}(1024.0)) & (size > ${type}(1e-30)) & (size < ${type}(1e30));
  if (${long}) { return ${call}; }
  let b1 = bitcast<${type}>(bitcast<${word}>(b) & ${word}(0xfffff000u));
  let rest = (a - q * b1) - q * (b - b1);
  return select(rest, rest + b, rest * sign(b) < ${type}());
}`;
  return [LONG_REMAINDER, short];
}

const LONG_REMAINDER = `// mantissa (24 bits) and exponent of the bits of a positive float
fn mantissa_exponent(bits: u32) -> vec2i {
  let whole = max(bits >> 23u, 1u);
  let mantissa = select(bits & 0x7fffffu, (bits & 0x7fffffu) | 0x800000u, bits >= 0x800000u);
  let shift = countLeadingZeros(mantissa) - 8u;
  return vec2i(i32(mantissa << shift), i32(whole) - i32(shift));
}
fn long_remainder(a: f32, b: f32) -> f32 {
  let x = bitcast<u32>(a) & 0x7fffffffu;
  let y = bitcast<u32>(b) & 0x7fffffffu;
  if (y == 0u || y > 0x7f800000u || x >= 0x7f800000u) { return bitcast<f32>(x | 0x7fc00000u); }
  var bits = x;
  if (x >= y) {
    let p = mantissa_exponent(x);
    let q = mantissa_exponent(y);
    let inverse = 1.0 / f32(q.x);
    var rest = select(p.x, p.x - q.x, p.x >= q.x);
    for (var left = p.y - q.y; left > 0; left -= 7) { // 7 bits of the quotient at a time
      let grown = rest << u32(min(left, 7));
      rest = grown - i32(f32(grown) * inverse) * q.x;
      rest = select(rest, rest + q.x, rest < 0);
      rest = select(rest, rest - q.x, rest >= q.x);
    }
    let shift = i32(countLeadingZeros(u32(rest))) - 8;
    let exponent = q.y - shift;
    let normal = (u32(exponent) << 23u) | ((u32(rest) << u32(shift)) & 0x7fffffu);
    bits = select(normal, u32(rest) << u32(max(q.y - 1, 0)), exponent < 1);
    bits = select(bits, 0u, rest == 0);
  }
  let signed = bitcast<f32>(bits | (bitcast<u32>(a) & 0x80000000u));
  return select(signed, signed + b, bits != 0u && ((bitcast<u32>(a) ^ bitcast<u32>(b)) >> 31u) == 1u);
}`;

/** a^b modulo 2^32, by squaring. */
export function integerPowerWgsl(type: string): string {
  const unsigned = type === "u32" || type === "vec4u";
  const below = `  let odd = (b & ${type}(1)) == ${type}(1);
  let turned = select(select(${type}(), ${type}(1), a == ${type}(1)), select(${type}(1), ${type}(-1), odd), a == ${type}(-1));
  return select(power, turned, b < ${type}());`;
  return `fn power_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} {
  var power = ${type}(1);
  var factor = a;
  for (var bit = 0u; bit < 32u; bit++) {
    power = select(power, power * factor, ((b >> ${words(type)}(bit)) & ${type}(1)) == ${type}(1));
    factor = factor * factor;
  }
${unsigned ? "  return power;" : below}
}`;
}

/**
 * a^b in f32, right to half a unit in the last place and a little, so that powers which f32 holds are exact. log2 |a| and its
 * product with b are sums of a part of 12 bits, whose products are exact, and a rest.
 */
export function powerWgsl(type: string): string {
  const [u, i] = [words(type), signed(type)];
  const leading = (x: string): string => `bitcast<${type}>(bitcast<${u}>(${x}) & ${u}(0xfffff000u))`;
  const [one, zero, nan] = [`${type}(1.0)`, `${type}()`, `bitcast<${type}>(bits | ${u}(0x7fc00000u))`];
  const series = polynomial(type, ["0.33333333", "0.19999998", "0.14286055", "0.11087904", "0.097967187"]); // of artanh
  const exponential = polynomial(
    type,
    ["0.24022651", "0.055504109", "0.0096181291", "0.0013333558", "1.5403530e-4", "1.5252734e-5", "1.3215487e-6"],
    "r",
  );
  return `fn power_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} {
  let bits = bitcast<${u}>(a) & ${u}(0x7fffffffu);
  // |a| = 2^e m, where m lies in [√½, √2)
  let e = bitcast<${i}>(bits - ${u}(0x3f3504f3u)) >> ${u}(23u);
  let m = bitcast<${type}>(bits - (bitcast<${u}>(e) << ${u}(23u)));
  // log2 m = 2 artanh(s) / ln 2, where s = (m - 1) / (m + 1)
  let f = m - 1.0;
  let d = m + 1.0;
  let d1 = ${leading("d")};
  let d2 = m - (d1 - 1.0);
  let s = f / d;
  let s1 = ${leading("s")};
  let s2 = ((f - s1 * d1) - s1 * d2) / d;
  let z = s * s;
  let t = s2 + s * z * ${series};
  let q1 = ${leading("(s1 + t)")};
  let q2 = t - (q1 - s1);
  let l1 = q1 * 2.884765625;
  let l2 = q1 * 6.24456778e-4 + q2 * 2.88539008;
  let log1 = ${leading(`(${type}(e) + (l1 + l2))`)};
  let log2 = l2 - ((log1 - ${type}(e)) - l1);
  let within = clamp(b, ${type}(-4.0e9), ${type}(4.0e9)); // beyond, every power is 0, 1 or ∞
  let b1 = ${leading("within")};
  let y1 = b1 * log1;
  let y2 = (within - b1) * log1 + within * log2;
  let y = y1 + y2;
  let far = abs(y) > ${type}(160.0);
  let n = round(clamp(y, ${type}(-160.0), ${type}(160.0)));
  let r = select((y1 - n) + y2, ${zero}, far);
  let r1 = ${leading("r")};
  let r2 = select(((y1 - n) - r1) + y2, ${zero}, far);
  // 2^r = 1 + r ln 2 + r² …
  let u = r1 * 0.693115234375;
  let u1 = round(u * 4096.0) * 2.44140625e-4;
  let rest = (u - u1) + (r1 * 3.19461849e-5 + r2 * 0.69314718) + r * r * ${exponential};
  let half = ${i}(n) >> ${u}(1u);
  let scale1 = bitcast<${type}>((half + ${i}(127)) << ${u}(23u));
  let scale2 = bitcast<${type}>((${i}(n) - half + ${i}(127)) << ${u}(23u));
  let infinity = bitcast<${type}>((bits & ${u}()) | ${u}(0x7f800000u));
  var size = ((1.0 + u1) + rest) * scale1 * scale2;
  size = select(size, select(${zero}, infinity, b < ${zero}), bits < ${u}(0x800000u));
  size = select(size, select(infinity, ${zero}, b < ${zero}), bits == ${u}(0x7f800000u));
  let whole = floor(b) == b;
  let odd = abs(b - 2.0 * floor(b * 0.5)) == ${one};
  let negative = (bitcast<${u}>(a) >> ${u}(31u)) == ${u}(1u);
  size = select(size, select(size, -size, odd), negative & whole);
  let none = negative & !whole & (bits >= ${u}(0x800000u)) & (bits < ${u}(0x7f800000u));
  size = select(size, ${nan}, none | (bits > ${u}(0x7f800000u)) | ${isNanWgsl("b", type)});
  return select(size, ${one}, (b == ${zero}) | (a == ${one}));
}`;
}
