import * as sg from "../../../src/index.ts";
import { type Call, options, pairOf } from "./call.ts";

const distinct = async (found: Promise<sg.Unique>): Promise<sg.Tensor[]> => {
  const { values, inverse, counts } = await found;
  return [values, inverse, counts];
};

export const sorting: Record<string, Call> = {
  argsort: ({ x }, attrs) => x.argsort(attrs),
  bincount: ({ x, weights }, { minlength }) => x.bincount({ weights, minlength }),
  bucketize: ({ x, boundaries }, attrs) => x.bucketize(boundaries, attrs),
  histc: ({ x }, { bins, min, max }) => x.histc(bins, min, max),
  kthvalue: ({ x }, { k, dim, keepdim }) => pairOf(x.kthvalue(k, dim, keepdim)),
  median: ({ x }, { dim, keepdim }) => (dim === undefined ? x.median() : pairOf(x.median(dim, keepdim))),
  mode: ({ x }, { dim, keepdim }) => x.mode(dim, keepdim).values,
  nanmedian: ({ x }, { dim, keepdim }) => (dim === undefined ? x.nanmedian() : pairOf(x.nanmedian(dim, keepdim))),
  nanquantile: ({ x }, { q, ...attrs }) => x.nanquantile(q, options(attrs)),
  quantile: ({ x }, { q, ...attrs }) => x.quantile(q, options(attrs)),
  searchsorted: ({ seq, values }, attrs) => sg.searchsorted(seq, values, attrs),
  sort: ({ x }, attrs) => pairOf(x.sort(attrs)),
  unique: ({ x }, attrs) => distinct(x.unique(attrs)),
  unique_consecutive: ({ x }) => distinct(x.uniqueConsecutive()),
};
