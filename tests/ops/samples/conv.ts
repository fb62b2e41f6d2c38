import * as sg from "../../../src/index.ts";
import { type Family, of, type Sample, stepwise } from "./sample.ts";

/** Values apart from each other for n that 7 does not divide, so that steps of differences do not change which is largest. */
const distinct = (n: number): number[] => Array.from({ length: n }, (_, i) => ((i * 7) % n) / 4 - 1);
const { conv1d, conv2d, conv3d, convTranspose1d, convTranspose2d } = sg;
/** The gradient of sum(f(x, w) * g) for w. */
const weightGradient =
  (f: (x: sg.Tensor, w: sg.Tensor) => sg.Tensor): Sample["f"] =>
  (x, w, g) =>
    sg.grad(
      f(x, w.requiresGrad ? w : w.requiresGrad_())
        .mul(g)
        .sum(),
      [w],
      { createGraph: true },
    );

export const conv: Family = {
  given: {
    conv: [
      {
        inputs: [of([2, 4, 5, 4]), of([2, 2, 3, 3]), of([2])],
        f: (x, w, b) => conv2d(x, w, b, { stride: 2, padding: 1, groups: 2 }),
      },
      { inputs: [of([1, 4, 6]), of([3, 4, 2])], f: (x, w) => conv1d(x, w, null, { padding: "same", dilation: 2 }) },
      {
        inputs: [of([1, 2, 3, 4, 3]), of([4, 1, 2, 2, 2])],
        f: (x, w) => conv3d(x, w, null, { stride: [1, 2, 1], groups: 2 }),
      },
      { inputs: [of([3, 5, 6]), of([4, 3, 3, 3])], f: (x, w) => conv2d(x, w, null, { padding: [1, 2] }) },
    ],
    conv_input: [
      {
        inputs: [of([2, 4, 3, 2]), of([4, 1, 3, 3]), of([2])],
        f: (x, w, b) => convTranspose2d(x, w, b, { stride: 2, padding: 1, outputPadding: [1, 0], groups: 2 }),
      },
      {
        inputs: [of([1, 2, 4]), of([2, 4, 2])],
        f: (x, w) => convTranspose1d(x, w, null, { dilation: 3, padding: 1, outputPadding: 2 }),
      },
    ],
    conv_weight: {
      inputs: [of([2, 4, 5, 4]), of([4, 2, 3, 2]), of([2, 4, 3, 1])],
      f: weightGradient((x, w) => conv2d(x, w, null, { stride: 2, padding: [1, 0], dilation: [1, 2], groups: 2 })),
    },
    max_pool_indices: [
      {
        inputs: [{ ...of([1, 2, 5, 6]), values: distinct(60) }],
        f: (x) => sg.maxPool2d(x, 3, { stride: 2, padding: 1, ceilMode: true }),
        noSecond: stepwise,
      },
      {
        inputs: [{ ...of([1, 1, 3, 4, 5]), values: distinct(60) }],
        f: (x) => sg.maxPool3d(x, [2, 2, 3], { stride: 1, dilation: [1, 2, 1] }),
        noSecond: stepwise,
      },
      {
        inputs: [{ ...of([2, 9]), values: distinct(18) }],
        f: (x) => sg.adaptiveMaxPool1d(x, 4),
        noSecond: stepwise,
      },
    ],
  },
};
