import type { Tensor } from "../tensor/tensor.ts";

/** Rounds an f32 weight to f16 for f16 activations, so that the result stays f16. The gradient of the weight is f32. */
export const inDtypeOf = (x: Tensor, weight: Tensor): Tensor =>
  x.dtype === "f16" && weight.dtype === "f32" ? weight.half() : weight;
