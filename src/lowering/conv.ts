import type { Candidate, KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import type { Attrs } from "../graph/node.ts";
import { numel, type Shape } from "../graph/shape.ts";
import { busyGroups, columnStore, grid2d, STORE_4, sumParts } from "./grid.ts";

/** Three spatial dims, of which an op of fewer dims has the last ones. */
const three = (list: readonly number[], fill: number): number[] => [
  ...new Array<number>(3 - list.length).fill(fill),
  ...list,
];

interface PoolDim {
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
  readonly dilation: number;
}

/** x [N, C, ...spatial], attrs { dims? } -> positions of the largest elements, i32 [N, C, ...windows]. */
export const lowerMaxPool: Lower = (node, cx) => {
  const windows = node.attrs.dims as readonly PoolDim[] | undefined;
  const [n, m] = [node.src[0].shape.slice(2), node.shape.slice(2)];
  const total = numel(node.shape);
  const each = (fact: keyof PoolDim, fill: number): number[] => three(windows?.map((w) => w[fact]) ?? [], fill);
  const WG = cx.device.kind === "software" ? 8 : 64;
  return [
    {
      kernel: "max_pool",
      params: { WG, ADAPTIVE: Number(!windows) },
      dims: [
        ...[total, ...three(n, 1), ...three(m, 1), ...each("kernel", 1)],
        ...[...each("dilation", 1), ...each("stride", 1), ...each("padding", 0)],
      ],
      bind: [cx.operand(0).buffer, cx.output()],
      grid: grid2d(Math.ceil(total / WG)),
    },
  ];
};

/** Rows of a tile of conv.wgsl and conv_weight.wgsl. */
interface Tile extends Candidate {
  readonly rows: number;
}

/** A convolution without padding as its kernels see it: three spatial dims, and distances between elements of x. */
interface Geometry {
  readonly groups: number;
  readonly channels: number;
  readonly kernel: readonly number[];
  readonly windows: readonly number[];
  readonly plane: number;
  /** Words `tap0` to `tap2`, and `step0` to `step2`. */
  readonly taps: readonly number[];
  readonly steps: readonly number[];
}

function geometryOf(x: Shape, kernel: Shape, windows: Shape, attrs: Attrs): Geometry {
  const { groups, stride, dilation } = attrs as { groups: number; stride: number[]; dilation: number[] };
  const spatial = three(x.slice(2), 1);
  const apart = [spatial[1] * spatial[2], spatial[2], 1];
  const times = (list: readonly number[]): number[] => three(list, 1).map((n, d) => n * apart[d]);
  return {
    groups,
    channels: x[1] / groups,
    kernel: three(kernel, 1),
    windows: three(windows, 1),
    plane: numel(spatial),
    taps: times(dilation),
    steps: times(stride),
  };
}

/** Whether the kernels with tiles of subgroups pay. GPUs multiply unfolded windows in matmul_workgroup.wgsl. */
const tiled = ({ device }: LowerContext, { channels }: Geometry): boolean =>
  device.subgroupSize > 0 && device.kind === "software" && channels > 1;

const heights = (M: number): Tile[] =>
  [16, 8, 32, 4].filter((rows) => rows === 4 || rows < 2 * M).map((rows) => ({ rows }));

/** Whether depthwise.wgsl computes it: at most two spatial dims, stride and dilation 1, and taps that fit registers. */
function depthwise({ channels, kernel, windows }: Geometry, attrs: Attrs): boolean {
  const { stride, dilation } = attrs as { stride: number[]; dilation: number[] };
  const plain = [...stride, ...dilation].every((n) => n === 1);
  return channels === 1 && plain && kernel[0] * windows[0] === 1 && kernel[1] <= 7 && kernel[2] <= 7;
}

/** Words of `dims` in both depthwise kernels, for patches of ROWS x 4 windows. */
function depthwiseDims(x: Shape, y: Shape, groups: number, ROWS: number): { dims: number[]; patches: number } {
  const [, height, width] = three(x.slice(2), 1);
  const [, rows, N] = three(y.slice(2), 1);
  const patches = y[0] * y[1] * Math.ceil(rows / ROWS) * Math.ceil(N / 4);
  return { dims: [y[0], y[1], y[1] / groups, height, width, rows, N, patches], patches };
}

function depthwiseForward(
  cx: LowerContext,
  x: Shape,
  y: Shape,
  { groups, kernel, windows }: Geometry,
  [top, left]: readonly number[] = [0, 0],
): KernelCall[] {
  const ROWS = kernel[1] <= 5 ? 4 : 1; // taller patches of large kernels are not unrolled, or compile for seconds
  const { dims, patches } = depthwiseDims(x, y, groups, ROWS);
  const WG = cx.device.kind === "software" ? 8 : 64;
  const vectors = windows[2] % 4 === 0;
  const P = windows[1] * windows[2];
  return [
    {
      kernel: "depthwise",
      params: { WG, KH: kernel[1], KW: kernel[2], ROWS, C: vectors ? "vec4f" : "f32" },
      reads: vectors ? { hooks: { store: STORE_4 } } : undefined,
      dims: [...dims, top, left],
      bind: [cx.operand(0).buffer, cx.operand(1).buffer, cx.output()],
      grid: grid2d(Math.ceil(patches / WG)),
      epilogue: vectors ? { shape: [y[0], y[1], P], type: "vec4f", store: columnStore(P) } : undefined,
      compileMs: 100,
      flops: 2 * numel(y) * numel(kernel),
    },
  ];
}

function depthwiseWeight(cx: LowerContext, x: Shape, g: Shape, { groups, kernel }: Geometry): KernelCall[] {
  const ROWS = kernel[1] <= 3 ? 4 : 1; // as above
  const { dims } = depthwiseDims(x, g, groups, ROWS);
  const WG = cx.device.kind === "software" ? 8 : 64;
  return [
    {
      kernel: "depthwise_weight",
      params: { WG, KH: kernel[1], KW: kernel[2], ROWS },
      dims: [...dims, 0, 0],
      bind: [cx.operand(0).buffer, cx.operand(1).buffer, cx.output()],
      grid: grid2d(g[1]),
      flops: 2 * numel(g) * numel(kernel),
    },
  ];
}

/** As `lowerConvWindows`, with attrs { padding }: depthwise ones pad as they read, all others read a padded copy. */
export const lowerConv: Lower = (node, cx) => {
  const [x, w] = node.src.map((s) => s.shape);
  const geometry = geometryOf(x, w.slice(2), node.shape.slice(2), node.attrs);
  const padding = three(
    (node.attrs.padding as [number, number][]).map(([before]) => before),
    0,
  );
  const crops = (node.attrs.padding as [number, number][]).flat().some((n) => n < 0);
  if (crops || numel(node.shape) === 0 || !depthwise(geometry, node.attrs)) return undefined;
  return depthwiseForward(cx, x, node.shape, geometry, padding.slice(1));
};

/** (x [N, C, ...spatial], w [O, C / groups, ...kernel]), attrs { stride, dilation, groups } -> y [N, O, ...windows]. */
export const lowerConvWindows: Lower = (node, cx) => {
  const [x, w] = node.src.map((s) => s.shape);
  const geometry = geometryOf(x, w.slice(2), node.shape.slice(2), node.attrs);
  if (depthwise(geometry, node.attrs)) return depthwiseForward(cx, x, node.shape, geometry);
  if (!tiled(cx, geometry)) return undefined;
  const { groups, channels, kernel, windows, plane, taps, steps } = geometry;
  const SG = cx.device.subgroupSize;
  const [M, N] = [w[0] / groups, numel(windows)];
  const batches = x[0] * groups;
  if (N * batches === 0) return [];
  const { rows } = cx.choose("conv", { M, N, channels, taps: numel(kernel), batches }, heights(M));
  const rowTiles = Math.ceil(M / rows);
  const tiles = rowTiles * Math.ceil(N / (4 * SG));
  const vectors = N % 4 === 0;
  return [
    {
      kernel: "conv",
      params: { SG, TM: rows, C_GUARD: Number(channels % 4 !== 0), C: vectors ? "vec4f" : "f32" },
      reads: vectors ? { hooks: { store: STORE_4 } } : undefined,
      dims: [
        ...[M, N, channels, numel(kernel), groups, batches, rowTiles, tiles, plane, kernel[1], kernel[2]],
        ...[...taps, windows[1], windows[2], ...steps],
      ],
      bind: [cx.operand(1).buffer, cx.operand(0).buffer, cx.output()],
      grid: grid2d(tiles * batches),
      epilogue: { shape: [batches, M, N], type: "vec4f", store: columnStore(N) },
      compileMs: 250,
      flops: 2 * batches * M * N * channels * numel(kernel),
    },
  ];
};

/** (x [N, C, ...spatial], g [N, O, ...windows]), attrs { stride, dilation, groups, kernel } -> dw [O, C / groups, ...kernel]. */
export const lowerConvWeight: Lower = (node, cx) => {
  const [x, g] = node.src.map((s) => s.shape);
  const geometry = geometryOf(x, node.attrs.kernel as Shape, g.slice(2), node.attrs);
  if (depthwise(geometry, node.attrs)) return depthwiseWeight(cx, x, g, geometry);
  if (!tiled(cx, geometry)) return undefined;
  const { groups, channels, kernel, windows, plane, taps, steps } = geometry;
  const SG = cx.device.subgroupSize;
  const [M, N] = [g[1] / groups, channels * numel(kernel)];
  const samples = x[0];
  const { rows } = cx.choose("conv_weight", { M, N, windows: numel(windows), samples, groups }, heights(M));
  const rowTiles = Math.ceil(M / rows);
  const tiles = rowTiles * Math.ceil(N / (4 * SG));
  const wanted = Math.min(samples, Math.ceil(busyGroups(cx.device) / (tiles * groups)));
  const perSlice = Math.ceil(samples / wanted);
  const slices = Math.ceil(samples / perSlice);
  const out = slices > 1 ? cx.temp(4 * slices * groups * M * N) : cx.output();
  const vectors = N % 4 === 0;
  const main: KernelCall = {
    kernel: "conv_weight",
    params: { SG, TM: rows, GUARD: Number(windows[2] % 4 !== 0), C: vectors ? "vec4f" : "f32" },
    reads: vectors ? { hooks: { store: STORE_4 } } : undefined,
    dims: [
      ...[M, N, channels, numel(kernel), groups, samples, rowTiles, tiles, perSlice, slices, plane],
      ...[kernel[1], kernel[2], ...taps, ...windows, ...steps],
    ],
    bind: [cx.operand(1).buffer, cx.operand(0).buffer, out],
    grid: grid2d(tiles * groups * slices),
    compileMs: 250,
    flops: 2 * samples * groups * M * N * numel(windows),
  };
  if (slices > 1) return [main, sumParts(out, cx.output(), slices, groups * M, N)];
  return [{ ...main, epilogue: { shape: [groups, M, N], type: "vec4f", store: columnStore(N) } }];
};

/** x [N, C, S] -> mean and variance of each channel, [C]. */
export const lowerChannelMoments: Lower = (_node, cx) => channelSums(cx, false);

/** (x, g [N, C, S], mean, inverse [C]) -> Σ g and Σ g (x - mean) inverse, [C]. */
export const lowerChannelSums: Lower = (_node, cx) => channelSums(cx, true);

function channelSums(cx: LowerContext, backward: boolean): KernelCall[] {
  const x = cx.operand(0);
  const [samples, channels, positions] = x.shape;
  const [g, mean, inverse] = backward ? [1, 2, 3].map((i) => cx.operand(i).buffer) : [x.buffer, x.buffer, x.buffer];
  const WIDTH = positions % 4 === 0 ? 4 : 1;
  const WG = cx.device.kind === "software" ? 8 : Math.min(256, cx.device.maxInvocations);
  return [
    {
      kernel: "channel_sums",
      params: { WG, WIDTH, V: WIDTH === 4 ? "vec4f" : "f32", BACKWARD: Number(backward) },
      dims: [channels, samples, positions / WIDTH],
      bind: [x.buffer, g, mean, inverse, cx.output(0), cx.output(1)],
      grid: grid2d(channels),
    },
  ];
}
