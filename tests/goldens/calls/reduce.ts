import * as sg from "../../../src/index.ts";
import { along, type Call, number, options } from "./call.ts";

export const reduce: Record<string, Call> = {
  all: along((x, dim, keepdim) => x.all(dim, keepdim)),
  aminmax: ({ x }, attrs) => {
    const { min, max } = x.aminmax(options(attrs));
    return [min, max];
  },
  any: along((x, dim, keepdim) => x.any(dim, keepdim)),
  cdist: ({ a, b }, { p }) => sg.cdist(a, b, { p: number(p) }),
  cosine_similarity: ({ a, b }, attrs) => sg.cosineSimilarity(a, b, options(attrs)),
  count_nonzero: ({ x }, { dim }) => x.countNonzero(dim),
  nanmean: along((x, dim, keepdim) => x.nanmean(dim, keepdim)),
  nansum: along((x, dim, keepdim) => x.nansum(dim, keepdim)),
  norm: ({ x }, { p, ...attrs }) => x.norm({ p: p === "fro" ? p : number(p), ...options(attrs) }),
  normalize: ({ x }, attrs) => sg.normalize(x, options(attrs)),
  pairwise_distance: ({ a, b }, attrs) => sg.pairwiseDistance(a, b, options(attrs)),
  std: ({ x }, attrs) => x.std(options(attrs)),
  var_mean: ({ x }, { fn, ...attrs }) =>
    Object.values(fn === "std_mean" ? x.stdMean(options(attrs)) : x.varMean(options(attrs))),
};
