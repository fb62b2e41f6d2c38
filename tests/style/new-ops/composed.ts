import type { Tensor } from "../../../src/tensor/tensor.ts";

/** x with mean 0 and variance 1 along `dim`. */
export function standardize(x: Tensor, dim: number, eps = 1e-5): Tensor {
  const centred = x.sub(x.mean(dim, true));
  return centred.mul(centred.square().mean(dim, true).add(eps).rsqrt());
}
