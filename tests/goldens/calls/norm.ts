import * as sg from "../../../src/index.ts";
import { type Call, options } from "./call.ts";

export const norm: Record<string, Call> = {
  batch_norm: ({ x, weight, bias, running_mean, running_var }, attrs) => {
    const stats = { runningMean: running_mean, runningVar: running_var };
    const y = sg.batchNorm(x, { weight, bias, ...stats, ...options(attrs) });
    return attrs.training && running_mean ? [y.output, y.runningMean!, y.runningVar!] : y.output;
  },
  instance_norm: ({ x, weight, bias }, attrs) => sg.instanceNorm(x, { weight, bias, ...options(attrs) }).output,
  layer_norm_ext: ({ x, weight, bias }, { dims, eps }) => sg.layerNorm(x, weight ?? x.shape.slice(-dims), bias, eps),
};
