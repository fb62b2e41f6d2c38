import { type Call, pairOf } from "./call.ts";

export const scan: Record<string, Call> = {
  cummax: ({ x }, { dim }) => pairOf(x.cummax(dim)),
  cummin: ({ x }, { dim }) => pairOf(x.cummin(dim)),
  cumprod: ({ x }, { dim }) => x.cumprod(dim),
  logcumsumexp: ({ x }, { dim }) => x.logcumsumexp(dim),
};
