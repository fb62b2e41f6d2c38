import * as sg from "../../../src/index.ts";
import { type Family, of, type Sample } from "./sample.ts";

const channels = [of([3, 2, 4]), of([2], 0.5, 2), of([2])];
const batchNorm: Sample["f"] = (x, weight, bias) => sg.batchNorm(x, { weight, bias, training: true }).output;

export const norm: Family = {
  given: {
    batch_norm: [
      { inputs: channels, f: batchNorm, tolerance: 1e-5 },
      { inputs: [of([4, 3])], f: (x) => sg.batchNorm(x, { training: true }).output, tolerance: 1e-5 },
    ],
    channel_moments: {
      inputs: channels,
      f: (x, w, b) => sg.batchNorm(x, { weight: w, bias: b, training: true }).output.tanh(),
      tolerance: 1e-5,
    },
    channel_sums: {
      inputs: [...channels, of([3, 2, 4])],
      f: (x, weight, bias, g) => {
        const trained = [x, weight, bias].map((t) => (t.requiresGrad ? t : t.requiresGrad_()));
        const y = sg.batchNorm(trained[0], { weight: trained[1], bias: trained[2], training: true }).output;
        return sg.grad(y.mul(g).sum(), trained, { createGraph: true });
      },
      tolerance: 1e-5,
    },
  },
};
