import { suffix } from "./constant.ts";
import { float, row } from "./elementwise.ts";
import { isNanWgsl } from "./math.ts";
import * as wgsl from "./wgsl.ts";

// Hyperbolic functions and their inverses. Integers become f32. tanh is in unary.ts.

// sinh(x) / x in z = x², for |x| <= 1: 5.9e-10.
const SINH = [1, 0.1666666567325592, 0.008333385922014713, 0.0001983127003768459, 0.0000028384999950503698];

/** Hyperbolic sine, accurate near 0. It overflows where the value does: e^x is the square of e^(x/2). */
export const sinh = row({
  name: "sinh",
  rule: float,
  wgsl: ([x], _, type) => `sinh_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.exponential(type),
      `fn sinh_${s}(x: ${type}) -> ${type} {
  let z = x * x;
  let t = exponential_${s}(0.5 * abs(x));
  let size = (0.5 * t) * t - 0.5 / (t * t);
  return select(select(size, -size, x < ${type}()), x * ${wgsl.polynomial(type, "z", SINH)}, abs(x) < ${type}(1.0));
}`,
    ];
  },
  js: Math.sinh,
  vjp: (g, _y, [x]) => [g.mul(cosh(x))],
  cost: 24,
});

/** Hyperbolic cosine. */
export const cosh = row({
  name: "cosh",
  rule: float,
  wgsl: ([x], _, type) => `cosh_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.exponential(type),
      `fn cosh_${s}(x: ${type}) -> ${type} {
  let t = exponential_${s}(0.5 * abs(x));
  return (0.5 * t) * t + 0.5 / (t * t);
}`,
    ];
  },
  js: Math.cosh,
  vjp: (g, _y, [x]) => [g.mul(sinh(x))],
  cost: 20,
});

/** Above this size x² + 1 is x² in f32, and asinh and acosh are log(x) + log(2). */
const FAR = 4096;

/** Inverse hyperbolic sine, accurate near 0 and for large x: log1p(x + x² / (1 + √(x² + 1))). */
export const asinh = row({
  name: "asinh",
  rule: float,
  wgsl: ([x], _, type) => `asinh_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      wgsl.logOnePlus(type),
      `fn asinh_${s}(x: ${type}) -> ${type} {
  let a = abs(x);
  let far = a > ${type}(${FAR}.0);
  let near = min(a, ${type}(${FAR}.0));
  let z = near * near;
  let y = log_one_plus_${s}(select(near + z / (1.0 + sqrt(z + 1.0)), a - 1.0, far)) + select(${type}(), ${type}(0.69314718), far);
  return select(${wgsl.copySign(type, "y", "x")}, x, !(a >= ${type}()));
}`,
    ];
  },
  js: Math.asinh,
  vjp: (g, _y, [x]) => [g.mul(hypotenuse(x, 1).reciprocal())],
  cost: 32,
});

/** Inverse hyperbolic cosine: log1p(t + √(t (t + 2))) with t = x - 1. NaN below 1. */
export const acosh = row({
  name: "acosh",
  rule: float,
  wgsl: ([x], _, type) => `acosh_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      wgsl.logOnePlus(type),
      `fn acosh_${s}(x: ${type}) -> ${type} {
  let far = x > ${type}(${FAR}.0);
  let t = clamp(x - 1.0, ${type}(), ${type}(${FAR}.0));
  let y = log_one_plus_${s}(select(t + sqrt(t * (t + 2.0)), x - 1.0, far)) + select(${type}(), ${type}(0.69314718), far);
  return select(${wgsl.nan(type)}, y, x >= ${type}(1.0));
}`,
    ];
  },
  js: Math.acosh,
  // √(x² - 1) as a product that does not overflow.
  vjp: (g, _y, [x]) => [g.mul(x.sub(1).rsqrt()).mul(x.add(1).rsqrt())],
  cost: 32,
});

/** Inverse hyperbolic tangent: log1p(2x / (1 - x)) / 2. Infinite at ±1, NaN outside. */
export const atanh = row({
  name: "atanh",
  rule: float,
  wgsl: ([x], _, type) => `atanh_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      wgsl.logOnePlus(type),
      `fn atanh_${s}(x: ${type}) -> ${type} {
  let a = abs(x);
  let inside = a < ${type}(1.0);
  let b = select(${type}(), a, inside);
  let edge = select(${wgsl.nan(type)}, ${wgsl.infinity(type)}, a == ${type}(1.0));
  let y = select(edge, 0.5 * log_one_plus_${s}((b + b) / (1.0 - b)), inside);
  return ${wgsl.copySign(type, "y", "x")};
}`,
    ];
  },
  js: Math.atanh,
  vjp: (g, _y, [x]) => [g.div(x.neg().add(1).mul(x.add(1)))],
  cost: 32,
});

/** √(a² + b²), without overflow or underflow of the squares. Its gradient is 0 where it is 0. */
export const hypotenuse = row({
  name: "hypot",
  rule: float,
  commutative: true,
  wgsl: ([a, b], _, type) => `hypot_${suffix(type)}(${a}, ${b})`,
  helpers: (type) => [
    wgsl.bits(type),
    `fn hypot_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} {
  let large = max(abs(a), abs(b));
  let ratio = min(abs(a), abs(b)) / large;
  var y = large * sqrt(1.0 + ratio * ratio);
  y = select(y, ${type}(), large == ${type}());
  y = select(y, a + b, ${isNanWgsl("a", type)} | ${isNanWgsl("b", type)});
  return select(y, ${wgsl.infinity(type)}, (abs(a) == ${wgsl.infinity(type)}) | (abs(b) == ${wgsl.infinity(type)}));
}`,
  ],
  js: (a, b) => Math.hypot(a, b),
  vjp: (g, y, [a, b]) => {
    const scale = y.eq(0).to(y.dtype).add(y);
    return [g.mul(a.div(scale)), g.mul(b.div(scale))];
  },
  cost: 16,
});
