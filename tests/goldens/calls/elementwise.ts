import { type Call, options, unary } from "./call.ts";

export const elementwise: Record<string, Call> = {
  isfinite: unary((x) => x.isfinite()),
  isinf: unary((x) => x.isinf()),
  isnan: unary((x) => x.isnan()),
  isneginf: unary((x) => x.isneginf()),
  isposinf: unary((x) => x.isposinf()),
  nan_to_num: ({ x }, attrs) => x.nanToNum(options(attrs)),
  signbit: unary((x) => x.signbit()),
};
