import * as arithmetic from "../../ops/arithmetic.ts";
import * as bitwise from "../../ops/bitwise.ts";
import type { Operand } from "../../ops/elementwise.ts";
import * as errors from "../../ops/error-function.ts";
import * as exponential from "../../ops/exponential.ts";
import * as hyperbolic from "../../ops/hyperbolic.ts";
import * as rounding from "../../ops/rounding.ts";
import * as trigonometric from "../../ops/trigonometric.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** 2 to the power this. Exact for whole exponents. */
    exp2(): Tensor;
    /** exp(this) - 1, accurate near 0. */
    expm1(): Tensor;
    /** Base-2 logarithm. Exact for powers of 2. */
    log2(): Tensor;
    /** Base-10 logarithm. */
    log10(): Tensor;
    /** log(1 + this), accurate near 0. */
    log1p(): Tensor;
    /** log(this / (1 - this)), the inverse of sigmoid. With `eps` this is first limited to [eps, 1 - eps]. */
    logit(eps?: number): Tensor;
    /** log(exp(this) + exp(b)), without overflow. Both broadcast. */
    logaddexp(b: Operand): Tensor;
    /** this * log(b), and 0 where this is 0 unless b is NaN. Both broadcast. */
    xlogy(b: Operand): Tensor;
    /** Tangent of radians. */
    tan(): Tensor;
    /** Inverse sine, in [-π/2, π/2]. NaN outside [-1, 1]. */
    asin(): Tensor;
    /** Inverse cosine, in [0, π]. NaN outside [-1, 1]. */
    acos(): Tensor;
    /** Inverse tangent, in [-π/2, π/2]. */
    atan(): Tensor;
    /** Angle of the point (b, this) in [-π, π]. Both broadcast. Its gradient is 0 at the origin. */
    atan2(b: Operand): Tensor;
    /** sin(π this) / (π this), and 1 at 0. */
    sinc(): Tensor;
    /** Hyperbolic sine, accurate near 0. */
    sinh(): Tensor;
    /** Hyperbolic cosine. */
    cosh(): Tensor;
    /** Inverse hyperbolic sine, accurate near 0. */
    asinh(): Tensor;
    /** Inverse hyperbolic cosine. NaN below 1. */
    acosh(): Tensor;
    /** Inverse hyperbolic tangent. Infinite at ±1, NaN outside. */
    atanh(): Tensor;
    /** √(this² + b²), without overflow of the squares. Both broadcast. Its gradient is 0 where it is 0. */
    hypot(b: Operand): Tensor;
    /** 1 - erf(this), accurate in its tail. */
    erfc(): Tensor;
    /** Inverse of erf. Infinite at ±1, NaN outside. */
    erfinv(): Tensor;
    /** Rounds towards 0. Its gradient is 0. */
    trunc(): Tensor;
    /** this - trunc(this): the fraction, with the sign of this. */
    frac(): Tensor;
    /** Remainder with the sign of this, as % in JavaScript. Both broadcast. `mod` takes the sign of b. */
    fmod(b: Operand): Tensor;
    /** Remainder with the sign of b, as `mod`. Both broadcast. */
    remainder(b: Operand): Tensor;
    /** floor(this / b). Integers stay integers. Both broadcast. Its gradient is 0. */
    floorDivide(b: Operand): Tensor;
    /** Bits that both have. Integers and booleans; both broadcast. @throws for floats. */
    bitwiseAnd(b: Operand): Tensor;
    /** Bits that at least one has. Integers and booleans; both broadcast. @throws for floats. */
    bitwiseOr(b: Operand): Tensor;
    /** Bits that exactly one has. Integers and booleans; both broadcast. @throws for floats. */
    bitwiseXor(b: Operand): Tensor;
    /** All bits inverted: -this - 1 of i32, logicalNot of bool. @throws for floats. */
    bitwiseNot(): Tensor;
    /** this * 2^b modulo 2^32. Shifts by 32 bits or more give 0. @throws for floats. */
    bitwiseLeftShift(b: Operand): Tensor;
    /** floor(this / 2^b). i32 keeps its sign. @throws for floats. */
    bitwiseRightShift(b: Operand): Tensor;
    /** The larger of this and b; a NaN loses against a number. Ties give the gradient to this. */
    fmax(b: Operand): Tensor;
    /** The smaller of this and b; a NaN loses against a number. Ties give the gradient to this. */
    fmin(b: Operand): Tensor;
    /** |this| with the sign of b, that of -0 too. Integers become f32. */
    copysign(b: Operand): Tensor;
    /** this + weight (b - this). All three broadcast. Integers become f32. */
    lerp(b: Operand, weight: Operand): Tensor;
    /** this + value a b, value 1 by default. All three broadcast. */
    addcmul(a: Tensor, b: Tensor, options?: arithmetic.ScaledTerm): Tensor;
    /** this + value a / b, value 1 by default. All three broadcast. Integers become f32. */
    addcdiv(a: Tensor, b: Tensor, options?: arithmetic.ScaledTerm): Tensor;
    /** bool: exactly one of this and b is not 0. NaN is true. */
    logicalXor(b: Tensor): Tensor;
    /** bool: |this - b| <= atol + rtol |b|; rtol 1e-5, atol 1e-8. NaN is close to NaN with `equalNan`. */
    isclose(b: Operand, options?: arithmetic.Closeness): Tensor;
    /** Whether all elements are close, as in `isclose`. A promise, because it reads the result. */
    allclose(b: Operand, options?: arithmetic.Closeness): Promise<boolean>;
    /** Whether shapes and all elements are equal. NaN differs from itself. A promise, because it reads the result. */
    equal(b: Tensor): Promise<boolean>;
  }
}

addMethods({
  exp2(): Tensor {
    return exponential.exp2(this);
  },
  expm1(): Tensor {
    return exponential.expm1(this);
  },
  log2(): Tensor {
    return exponential.log2(this);
  },
  log10(): Tensor {
    return exponential.log10(this);
  },
  log1p(): Tensor {
    return exponential.log1p(this);
  },
  logit(eps?: number): Tensor {
    return exponential.logit(this, eps);
  },
  logaddexp(b: Operand): Tensor {
    return exponential.logaddexp(this, b);
  },
  xlogy(b: Operand): Tensor {
    return exponential.xlogy(this, b);
  },
  tan(): Tensor {
    return trigonometric.tan(this);
  },
  asin(): Tensor {
    return trigonometric.asin(this);
  },
  acos(): Tensor {
    return trigonometric.acos(this);
  },
  atan(): Tensor {
    return trigonometric.atan(this);
  },
  atan2(b: Operand): Tensor {
    return trigonometric.atan2(this, b);
  },
  sinc(): Tensor {
    return trigonometric.sinc(this);
  },
  sinh(): Tensor {
    return hyperbolic.sinh(this);
  },
  cosh(): Tensor {
    return hyperbolic.cosh(this);
  },
  asinh(): Tensor {
    return hyperbolic.asinh(this);
  },
  acosh(): Tensor {
    return hyperbolic.acosh(this);
  },
  atanh(): Tensor {
    return hyperbolic.atanh(this);
  },
  hypot(b: Operand): Tensor {
    return hyperbolic.hypotenuse(this, b);
  },
  erfc(): Tensor {
    return errors.erfc(this);
  },
  erfinv(): Tensor {
    return errors.erfinv(this);
  },
  trunc(): Tensor {
    return rounding.trunc(this);
  },
  frac(): Tensor {
    return rounding.frac(this);
  },
  fmod(b: Operand): Tensor {
    return rounding.fmod(this, b);
  },
  remainder(b: Operand): Tensor {
    return this.mod(b);
  },
  floorDivide(b: Operand): Tensor {
    return rounding.floorDivide(this, b);
  },
  bitwiseAnd(b: Operand): Tensor {
    return bitwise.bitwiseAnd(this, b);
  },
  bitwiseOr(b: Operand): Tensor {
    return bitwise.bitwiseOr(this, b);
  },
  bitwiseXor(b: Operand): Tensor {
    return bitwise.bitwiseXor(this, b);
  },
  bitwiseNot(): Tensor {
    return bitwise.bitwiseNot(this);
  },
  bitwiseLeftShift(b: Operand): Tensor {
    return bitwise.bitwiseLeftShift(this, b);
  },
  bitwiseRightShift(b: Operand): Tensor {
    return bitwise.bitwiseRightShift(this, b);
  },
  fmax(b: Operand): Tensor {
    return arithmetic.fmax(this, b);
  },
  fmin(b: Operand): Tensor {
    return arithmetic.fmin(this, b);
  },
  copysign(b: Operand): Tensor {
    return arithmetic.copysign(this, b);
  },
  lerp(b: Operand, weight: Operand): Tensor {
    return arithmetic.lerp(this, b, weight);
  },
  addcmul(a: Tensor, b: Tensor, options?: arithmetic.ScaledTerm): Tensor {
    return arithmetic.addcmul(this, a, b, options);
  },
  addcdiv(a: Tensor, b: Tensor, options?: arithmetic.ScaledTerm): Tensor {
    return arithmetic.addcdiv(this, a, b, options);
  },
  logicalXor(b: Tensor): Tensor {
    return arithmetic.logicalXor(this, b);
  },
  isclose(b: Operand, options?: arithmetic.Closeness): Tensor {
    return arithmetic.isclose(this, b, options);
  },
  allclose(b: Operand, options?: arithmetic.Closeness): Promise<boolean> {
    return arithmetic.allclose(this, b, options);
  },
  equal(b: Tensor): Promise<boolean> {
    return arithmetic.equal(this, b);
  },
});
