import { checkOptions } from "../graph/options.ts";
import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { norm } from "./statistics.ts";

// Distances and similarities of vectors. Integers become f32.

function checkEps(op: string, eps: number): void {
  if (!(eps >= 0)) throw new RangeError(`${op}: eps must be a number from 0 on, got ${eps}`);
}

/** x divided by its norm along `dim` (default 1), which counts as `eps` (1e-12) at least. p as in `norm`, default 2. */
export function normalize(x: Tensor, options: { p?: number; dim?: number; eps?: number } = {}): Tensor {
  checkOptions("normalize", options, ["p", "dim", "eps"]);
  const { p = 2, dim = 1, eps = 1e-12 } = options;
  checkEps("normalize", eps);
  return x.div(norm(x, { p, dim, keepdim: true }).clamp({ min: eps }));
}

/** Cosine of the angle between a and b along `dim` (default 1), which is dropped. Both broadcast. Norms count as `eps` (1e-8) at least. */
export function cosineSimilarity(a: Tensor, b: Tensor, options: { dim?: number; eps?: number } = {}): Tensor {
  checkOptions("cosineSimilarity", options, ["dim", "eps"]);
  const { dim = 1, eps = 1e-8 } = options;
  checkEps("cosineSimilarity", eps);
  const product = a.mul(b);
  // The dim counts in the broadcast shape: both get as many dims.
  const wide = (x: Tensor): Tensor => x.reshape([...new Array<number>(product.ndim - x.ndim).fill(1), ...x.shape]);
  const size = (x: Tensor): Tensor => norm(wide(x), { dim, keepdim: true }).clamp({ min: eps });
  return product.div(size(a).mul(size(b))).sum(dim);
}

/** Norm of a - b + eps over the last dim: [..., D] and [..., D] -> [...]. Both broadcast. Default p 2, eps 1e-6. */
export function pairwiseDistance(
  a: Tensor,
  b: Tensor,
  options: { p?: number; eps?: number; keepdim?: boolean } = {},
): Tensor {
  checkOptions("pairwiseDistance", options, ["p", "eps", "keepdim"]);
  const { p = 2, eps = 1e-6, keepdim = false } = options;
  checkEps("pairwiseDistance", eps);
  return norm(a.sub(b).add(eps), { p, dim: -1, keepdim });
}

/**
 * Distances of all rows: a [..., P, D] and b [..., R, D] -> [..., P, R]. Batch dims broadcast. p as in `norm`, default 2.
 * Differences are summed, not products, so close rows keep their digits.
 */
export function cdist(a: Tensor, b: Tensor, options: { p?: number } = {}): Tensor {
  checkOptions("cdist", options, ["p"]);
  if (a.ndim < 2 || b.ndim < 2 || a.shape[a.ndim - 1] !== b.shape[b.ndim - 1])
    throw new Error(`cdist: a [..., P, D] and b [..., R, D] expected, got ${show(a.shape)} and ${show(b.shape)}`);
  return norm(a.unsqueeze(-2).sub(b.unsqueeze(-3)), { p: options.p ?? 2, dim: -1 });
}
