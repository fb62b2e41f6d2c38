import * as sg from "../../../src/index.ts";
import type { Tensor } from "../../../src/tensor/tensor.ts";
import { type Call, options, pairOf } from "./call.ts";

const convolution =
  (f: (x: Tensor, w: Tensor, b: Tensor, o: any) => Tensor): Call =>
  ({ x, w, b }, attrs) =>
    f(x, w, b, options(attrs));
const maxima =
  (f: (x: Tensor, kernel: any, o: any) => unknown): Call =>
  ({ x }, { kernel, ...attrs }) =>
    pairOf(f(x, kernel, { ...options(attrs), returnIndices: true }) as any);

export const conv: Record<string, Call> = {
  adaptive_avg_pool_ext: ({ x }, { size }) => (x.ndim === 3 ? sg.adaptiveAvgPool1d : sg.adaptiveAvgPool2d)(x, size),
  adaptive_max_pool2d: ({ x }, { size }) => pairOf(sg.adaptiveMaxPool2d(x, size, { returnIndices: true })),
  affine_grid: ({ theta }, { size, ...attrs }) => sg.affineGrid(theta, size, options(attrs)),
  avg_pool_ext: ({ x }, { kernel, ...attrs }) =>
    (x.ndim === 3 ? sg.avgPool1d : sg.avgPool2d)(x, kernel, options(attrs)),
  conv1d: convolution(sg.conv1d),
  conv2d_ext: convolution(sg.conv2d),
  conv3d: convolution(sg.conv3d),
  conv_transpose1d: convolution(sg.convTranspose1d),
  conv_transpose2d: convolution(sg.convTranspose2d),
  conv_transpose3d: convolution(sg.convTranspose3d),
  grid_sample: ({ x, grid }, attrs) => sg.gridSample(x, grid, options(attrs)),
  interpolate_ext: ({ x }, attrs) => sg.interpolate(x, options(attrs)),
  max_pool1d: maxima(sg.maxPool1d),
  max_pool2d_indices: maxima(sg.maxPool2d),
  max_pool3d: maxima(sg.maxPool3d),
  pixel_shuffle: ({ x }, { factor }) => sg.pixelShuffle(x, factor),
  pixel_unshuffle: ({ x }, { factor }) => sg.pixelUnshuffle(x, factor),
};
