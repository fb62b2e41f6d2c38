import { suffix } from "./constant.ts";
import { float, row } from "./elementwise.ts";
import * as math from "./math.ts";

import * as wgsl from "./wgsl.ts";

// erf itself is in unary.ts. Integers become f32.

// e^(x²) erfc(x) / t in t = 1 / (1 + 0.4 x), for x in [0.5, 10.2]: 4.3e-9.
const ERFCX = [
  0.2256878912448883, 0.22537225484848022, 0.21093317866325378, 0.15098391473293304, 0.20129886269569397,
  -0.1326834112405777, 0.33732861280441284, -0.3171357810497284, 0.10886571556329727, -0.010645159520208836,
];

/** 1 - erf(x), accurate in its tail. */
export const erfc = row({
  name: "erfc",
  rule: float,
  wgsl: ([x], _, type) => `erfc_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.exponential(type),
      math.erfWgsl(type),
      `fn erfc_${s}(x: ${type}) -> ${type} {
  let a = min(abs(x), ${type}(10.2)); // erfc is 0 in f32 from there on
  let high = bitcast<${type}>(bitcast<${math.words(type)}>(a) & ${math.words(type)}(0xfffff000u)); // its square is exact
  let t = 1.0 / (1.0 + 0.4 * a);
  let size = exponential_${s}(-high * high) * exponential_${s}(-(a - high) * (a + high));
  let tail = size * t * ${wgsl.polynomial(type, "t", ERFCX)};
  let far = select(tail, 2.0 - tail, x < ${type}());
  return select(1.0 - erf_${s}(x), far, abs(x) > ${type}(0.5));
}`,
    ];
  },
  js: complement,
  vjp: (g, _y, [x]) => [g.mul(x.square().neg().exp()).mul(-2 / Math.sqrt(Math.PI))],
  cost: 48,
});

/** 1 - erf(x) in f64: from 2 on by the continued fraction of Abramowitz & Stegun 7.1.14. */
function complement(x: number): number {
  if (x < 2) return 1 - math.erf(x);
  let fraction = 0;
  for (let k = 100; k > 0; k--) fraction = k / 2 / (x + fraction);
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * (x + fraction));
}

// erf⁻¹(x) / x, with w = -log(1 - x²): in w - 2.5 for w < 5 (4.4e-8), in √w - 3 up to the last f32 below 1 (9.8e-8).
const MIDDLE = [
  1.5014094114303589, 0.24664027988910675, -0.004177386406809092, -0.0012527165235951543, 0.0002183442993555218,
  -0.00000497804103360977, -0.0000034626882552402094, 4.6932700570323505e-7, 2.3232519907878668e-8,
  -9.016770441405697e-9,
];
const OUTER = [
  2.832977056503296, 1.0016744136810303, 0.009435024112462997, -0.0076276580803096294, 0.005765399895608425,
  -0.003652761457487941, 0.0012921150773763657, 0.00007955273758852854, -0.00015902906307019293,
];

/** Inverse of erf. Infinite at ±1, NaN outside. */
export const erfinv = row({
  name: "erfinv",
  rule: float,
  wgsl: ([x], _, type) => `erfinv_${suffix(type)}(${x})`,
  helpers: (type) => {
    const s = suffix(type);
    return [
      wgsl.bits(type),
      wgsl.logarithm(type),
      `fn erfinv_${s}(x: ${type}) -> ${type} {
  let a = abs(x);
  let w = -logarithm_${s}((1.0 - a) * (1.0 + a));
  let near = w < ${type}(5.0);
  let u = w - 2.5;
  let v = sqrt(max(w, ${type}())) - 3.0;
  let y = select(${wgsl.polynomial(type, "v", OUTER)}, ${wgsl.polynomial(type, "u", MIDDLE)}, near) * x;
  let edge = select(${wgsl.nan(type)}, ${wgsl.infinity(type)}, a == ${type}(1.0));
  return select(${wgsl.copySign(type, "edge", "x")}, y, a < ${type}(1.0));
}`,
    ];
  },
  js: inverse,
  vjp: (g, y) => [g.mul(y.square().exp()).mul(Math.sqrt(Math.PI) / 2)],
  cost: 48,
});

/** Inverse of erf in f64: Newton's method on the logarithm of erfc, which is nearly a parabola. */
function inverse(x: number): number {
  if (x < 0) return -inverse(-x);
  if (!(x < 1)) return x === 1 ? Infinity : NaN;
  if (x === 0) return x;
  let y = Math.sqrt(-Math.log1p(-x * x) * 0.8);
  for (let i = 0; i < 60; i++) {
    const slope = (2 / Math.sqrt(Math.PI)) * Math.exp(-y * y);
    // Below 0.5 erf has the digits, above it erfc.
    const step =
      x < 0.5 ? (math.erf(y) - x) / slope : (-(Math.log(complement(y)) - Math.log(1 - x)) * complement(y)) / slope;
    y -= step;
    if (Math.abs(step) < 1e-15 * y) break;
  }
  return y;
}
