import { suffix } from "./constant.ts";
import { float, row, where } from "./elementwise.ts";
import { isNanWgsl } from "./math.ts";
import * as wgsl from "./wgsl.ts";

// Trigonometric functions of radians, and their inverses. Integers become f32. sin and cos are in unary.ts.

// In z = x²: sin(x) / x and cos(x) for |x| <= π / 4 (5.3e-10, 3.6e-10), sin(πx) / πx for |x| <= 1/2 (4.1e-10),
// asin(x) / x for |x| <= 1/2 (5.1e-10), atan(x) / x for |x| <= √2 - 1 (1.1e-9).
const SIN = [1, -0.1666666567325592, 0.008333273231983185, -0.0001982905378099531, 0.0000026559118850855157];
const COS = [1, -0.5, 0.041666626930236816, -0.0013886523665860295, 0.000024354496417799965];
const SIN_PI = [
  1, -1.644934058189392, 0.8117421865463257, -0.19074790179729462, 0.026117272675037384, -0.0022367299534380436,
];
const ASIN = [
  1, 0.16666656732559204, 0.07500705868005753, 0.04447757825255394, 0.032137393951416016, 0.013197826221585274,
  0.03924126923084259,
];
const ATAN = [
  1, -0.33333316445350647, 0.1999853551387787, -0.14244160056114197, 0.1059451550245285, -0.06071998551487923,
];

/**
 * Tangent. x is reduced by three parts of π / 2: the angle is right to 1.1e-7 up to |x| = 10⁴ and to 1.1e-6 up to 10⁵
 * (measured on lavapipe). Beyond 10⁵ the result is meaningless, where torch's is right.
 */
export const tan = row({
  name: "tan",
  rule: float,
  wgsl: ([x], _, type) => `tan_${suffix(type)}(${x})`,
  helpers: (type) => `fn tan_${suffix(type)}(x: ${type}) -> ${type} {
  let n = round(x * 0.63661977);
  let r = ((x - n * 1.5703125) - n * 4.83751297e-4) - n * 7.54978995e-8;
  let z = r * r;
  let s = r * ${wgsl.polynomial(type, "z", SIN)};
  let c = ${wgsl.polynomial(type, "z", COS)};
  let odd = abs(n - 2.0 * floor(n * 0.5)) == ${type}(1.0);
  return select(s, -c, odd) / select(c, s, odd);
}`,
  js: Math.tan,
  vjp: (g, y) => [g.mul(y.square().add(1))],
  cost: 28,
});

/** sin(πx) / (πx), and 1 at 0. */
export const sinc = row({
  name: "sinc",
  rule: float,
  wgsl: ([x], _, type) => `sinc_${suffix(type)}(${x})`,
  helpers: (type) => `fn sinc_${suffix(type)}(x: ${type}) -> ${type} {
  let n = round(x);
  let r = x - n; // exact
  let z = r * r;
  let odd = abs(n - 2.0 * floor(n * 0.5)) == ${type}(1.0);
  let s = select(r, -r, odd) * ${wgsl.polynomial(type, "z", SIN_PI)};
  return select(s / x, ${type}(1.0), x == ${type}());
}`,
  js: (x) => {
    if (x === 0) return 1;
    const n = Math.round(x); // sin(πx) = ± sin(π (x - n)): Math.PI is not π
    return ((n % 2 === 0 ? 1 : -1) * Math.sin(Math.PI * (x - n))) / (Math.PI * x);
  },
  vjp: (g, y, [x]) => {
    // (cos πx - sinc x) / x cancels near 0: its series there.
    const near = x.abs().lt(0.25);
    const safe = where(near, 1, x);
    const z = x.mul(Math.PI).square();
    const series = z
      .mul(1 / 45360)
      .sub(1 / 840)
      .mul(z)
      .add(1 / 30)
      .mul(z)
      .sub(1 / 3)
      .mul(x)
      .mul(Math.PI ** 2);
    return [g.mul(where(near, series, x.mul(Math.PI).cos().sub(y).div(safe)))];
  },
  cost: 20,
});

const arcsine = (type: string): string => `fn arcsine_${suffix(type)}(x: ${type}) -> ${type} {
  let z = x * x;
  return x * ${wgsl.polynomial(type, "z", ASIN)};
}`;

/** Inverse sine. NaN outside [-1, 1]. */
export const asin = row({
  name: "asin",
  rule: float,
  wgsl: ([x], _, type) => `asin_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      arcsine(type),
      `fn asin_${s}(x: ${type}) -> ${type} {
  let a = abs(x);
  let outer = a > ${type}(0.5);
  let r = arcsine_${s}(select(a, sqrt(max(0.5 - 0.5 * a, ${type}())), outer));
  let y = select(r, 1.57079633 - 2.0 * r, outer);
  return select(${wgsl.nan(type)}, ${wgsl.copySign(type, "y", "x")}, a <= ${type}(1.0));
}`,
    ];
  },
  js: Math.asin,
  vjp: (g, _y, [x]) => [g.mul(x.neg().add(1).mul(x.add(1)).rsqrt())],
  cost: 24,
});

/** Inverse cosine. NaN outside [-1, 1]. */
export const acos = row({
  name: "acos",
  rule: float,
  wgsl: ([x], _, type) => `acos_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      arcsine(type),
      `fn acos_${s}(x: ${type}) -> ${type} {
  let a = abs(x);
  let outer = a > ${type}(0.5);
  let r = arcsine_${s}(select(x, sqrt(max(0.5 - 0.5 * a, ${type}())), outer));
  let far = select(2.0 * r, 3.14159265 - 2.0 * r, x < ${type}());
  return select(${wgsl.nan(type)}, select(1.57079633 - r, far, outer), a <= ${type}(1.0));
}`,
    ];
  },
  js: Math.acos,
  vjp: (g, _y, [x]) => [g.mul(x.neg().add(1).mul(x.add(1)).rsqrt()).neg()],
  cost: 24,
});

/** fn angle_T(y, x): the angle of (x, y) in [-π, π], with the signs of zeros as in C. */
const angle: wgsl.Helper = (type) => {
  const w = type === "f32" ? "u32" : "vec4u";
  return `fn angle_${suffix(type)}(y: ${type}, x: ${type}) -> ${type} {
  let infinite = ${wgsl.infinity(type)};
  let low = min(abs(x), abs(y));
  let high = max(abs(x), abs(y));
  let scale = select(${type}(1.0), ${type}(0.25), high > ${type}(1e38)); // low + high must not overflow
  let a = select(low * scale, ${type}(1.0), low == infinite);
  let b = select(high * scale, ${type}(1.0), low == infinite);
  // atan(a / b) = π / 4 + atan((a - b) / (a + b))
  let upper = a > b * 0.41421356;
  let t = select(select(a, a - b, upper) / select(b, a + b, upper), ${type}(), high == ${type}());
  let z = t * t;
  var r = t * ${wgsl.polynomial(type, "z", ATAN)} + select(${type}(), ${type}(0.78539816), upper & (high > ${type}()));
  r = select(r, 1.57079633 - r, abs(y) > abs(x));
  r = select(r, 3.14159265 - r, (bitcast<${w}>(x) >> ${w}(31u)) == ${w}(1u));
  r = select(r, x, ${isNanWgsl("x", type)});
  return select(${wgsl.copySign(type, "r", "y")}, y, ${isNanWgsl("y", type)});
}`;
};

/** Inverse tangent, in [-π/2, π/2]. */
export const atan = row({
  name: "atan",
  rule: float,
  wgsl: ([x], _, type) => `angle_${suffix(type)}(${x}, ${type}(1.0))`,
  helpers: (type) => [wgsl.bits(type), angle(type)],
  js: Math.atan,
  vjp: (g, _y, [x]) => [g.div(x.square().add(1))],
  cost: 32,
});

/** The angle of the point (b, a) in [-π, π]: atan(a / b) in the right quadrant. Its gradient is 0 at the origin. */
export const atan2 = row({
  name: "atan2",
  rule: float,
  wgsl: ([a, b], _, type) => `angle_${suffix(type)}(${a}, ${b})`,
  helpers: (type) => [wgsl.bits(type), angle(type)],
  js: Math.atan2,
  vjp: (g, _y, [a, b]) => {
    const square = a.square().add(b.square());
    const scaled = where(square.eq(0), 0, g.div(square));
    return [scaled.mul(b), scaled.mul(a).neg()];
  },
  cost: 32,
});
