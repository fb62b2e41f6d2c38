import * as sg from "../../../src/index.ts";
import { type Call, unary } from "./call.ts";

export const activation: Record<string, Call> = {
  celu: ({ x }, { alpha }) => sg.celu(x, alpha),
  elu: ({ x }, { alpha }) => sg.elu(x, alpha),
  glu: ({ x }, { dim }) => sg.glu(x, dim),
  hardshrink: ({ x }, { lambd }) => sg.hardshrink(x, lambd),
  hardsigmoid: unary(sg.hardsigmoid),
  hardswish: unary(sg.hardswish),
  hardtanh: ({ x }, { min_val, max_val }) => sg.hardtanh(x, min_val, max_val),
  leaky_relu: ({ x }, { negative_slope }) => sg.leakyRelu(x, negative_slope),
  logsigmoid: unary(sg.logsigmoid),
  mish: unary(sg.mish),
  prelu: ({ x, weight }) => sg.prelu(x, weight),
  relu6: unary(sg.relu6),
  selu: unary(sg.selu),
  softmin: ({ x }, { dim }) => sg.softmin(x, dim),
  softplus_beta: ({ x }, { beta, threshold }) => sg.softplus(x, { beta, threshold }),
  softshrink: ({ x }, { lambd }) => sg.softshrink(x, lambd),
  softsign: unary(sg.softsign),
  tanhshrink: unary(sg.tanhshrink),
  threshold: ({ x }, { threshold, value }) => sg.threshold(x, threshold, value),
};
