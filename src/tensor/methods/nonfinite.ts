import * as nonfinite from "../../ops/nonfinite.ts";
import type { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /** True where an element is NaN. Same shape, bool. */
    isnan(): Tensor;
    /** True where an element is ∞ or -∞. Same shape, bool. */
    isinf(): Tensor;
    /** True where an element is neither infinite nor NaN. Same shape, bool. */
    isfinite(): Tensor;
    /** True where an element is ∞. Same shape, bool. */
    isposinf(): Tensor;
    /** True where an element is -∞. Same shape, bool. */
    isneginf(): Tensor;
    /** True where the sign bit is set: below 0, and -0. Same shape, bool. */
    signbit(): Tensor;
    /**
     * NaN becomes `nan` (default 0), ∞ `posinf`, and -∞ `neginf` (defaults: the largest and lowest finite values of the
     * dtype). Their gradient is 0. Integers stay as they are.
     * @throws on an unknown option.
     */
    nanToNum(options?: nonfinite.NanToNum): Tensor;
  }
}

addMethods({
  isnan(): Tensor {
    return nonfinite.isnan(this);
  },
  isinf(): Tensor {
    return nonfinite.isinf(this);
  },
  isfinite(): Tensor {
    return nonfinite.isfinite(this);
  },
  isposinf(): Tensor {
    return nonfinite.isposinf(this);
  },
  isneginf(): Tensor {
    return nonfinite.isneginf(this);
  },
  signbit(): Tensor {
    return nonfinite.signbit(this);
  },
  nanToNum(options?: nonfinite.NanToNum): Tensor {
    return nonfinite.nanToNum(this, options);
  },
});
