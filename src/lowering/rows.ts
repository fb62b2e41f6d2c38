import type { DeviceInfo } from "../graph/device-info.ts";
import { floatBits } from "../graph/dtype.ts";
import type { Candidate, HookSpace, KernelCall, Lower, LowerContext, Prologue } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import type { Shape } from "../graph/shape.ts";
import { numel } from "../graph/shape.ts";
import { busyGroups, grid2d, sumParts } from "./grid.ts";

/** A contiguous tensor as rows along its last dim, and the schedule of a row kernel for it. */
export interface Rows {
  readonly rows: number;
  readonly cols: number;
  /** cols / WIDTH. */
  readonly vectors: number;
  readonly params: { readonly WG: number; readonly LANES: number; readonly WIDTH: number; readonly V: string };
  readonly grid: [number, number, number];
  /** The index space of hooks. */
  readonly space: HookSpace;
}

/** Invocations per workgroup, invocations per row, and columns per vector. */
interface Schedule extends Candidate {
  readonly WG: number;
  readonly LANES: number;
  readonly WIDTH: number;
}

/**
 * GPUs: as many invocations per row as it has vectors, rounded down to a power of two, so that loads coalesce.
 * Software adapters: one per row if the rows fill a subgroup on each core. There, loads cost the same in any order, and barriers
 * are expensive.
 */
function heuristic(rows: number, cols: number, device: DeviceInfo): Schedule {
  const WIDTH = cols % 4 === 0 ? 4 : 1;
  const software = device.kind === "software";
  if (software) return { WG: 8, LANES: rows >= 16 ? 1 : Math.min(8, powerBelow(cols / WIDTH)), WIDTH };
  const LANES = Math.min(256, device.maxInvocations, powerBelow(cols / WIDTH));
  return { WG: Math.max(LANES, 64), LANES, WIDTH };
}

const powerBelow = (n: number): number => 2 ** Math.floor(Math.log2(Math.max(n, 1)));

/** The heuristic's schedule, then others for the tuner: other counts of invocations, and scalars instead of vectors. */
function schedules(rows: number, cols: number, device: DeviceInfo): Schedule[] {
  const first = heuristic(rows, cols, device);
  const software = device.kind === "software";
  const groups = software ? [8, 16, 32] : [64, 128, 256];
  const lanes = software ? [first.LANES] : [16, 64, 256];
  const others = groups
    .flatMap((WG) => lanes.map((LANES) => ({ ...first, WG, LANES })))
    .filter(({ WG, LANES }) => LANES <= Math.min(WG, powerBelow(cols / first.WIDTH)) && WG <= device.maxInvocations)
    .filter(({ WG, LANES }) => !(WG === first.WG && LANES === first.LANES) && WG / LANES < 2 * rows);
  return [first, ...others, ...(first.WIDTH > 1 ? [{ ...first, WIDTH: 1 }] : [])];
}

/** The heuristic's schedule for a tensor. */
export const rowSchedule = (shape: Shape, device: DeviceInfo): Rows => {
  const [rows, cols] = rowsOf(shape);
  return scheduled(rows, cols, heuristic(rows, cols, device));
};

function rowsOf(shape: Shape): [rows: number, cols: number] {
  const cols = shape[shape.length - 1] ?? 1;
  return [cols === 0 ? 0 : numel(shape) / cols, cols];
}

/** The schedule that the tuner has chosen for `kernel` on a tensor. */
function tunedSchedule(kernel: string, shape: Shape, cx: LowerContext): Rows {
  const [rows, cols] = rowsOf(shape);
  if (rows === 0) return rowSchedule(shape, cx.device);
  return scheduled(rows, cols, cx.choose(kernel, { rows, cols }, schedules(rows, cols, cx.device)));
}

function scheduled(rows: number, cols: number, { WG, LANES, WIDTH }: Schedule): Rows {
  const V = WIDTH === 4 ? "vec4f" : "f32";
  return {
    rows,
    cols,
    vectors: cols / WIDTH,
    params: { WG, LANES, WIDTH, V },
    grid: grid2d(Math.ceil(rows / (WG / LANES))),
    space: { shape: [1, rows, cols], type: V },
  };
}

/** Row kernels read their first source by `fn load` the first time, and by `fn reload` after that. */
const prologue = (space: HookSpace, readings: number): Prologue => ({
  ...space,
  source: 0,
  firstHook: "load",
  hook: "reload",
  readings,
  copies: readings,
});

/**
 * Vectors per invocation and iteration (UNROLL), and vectors per block of the sums: √n iterations of n. An iteration costs as
 * much as a load. On software adapters two vectors per iteration also take longer to compile, which only large tensors repay.
 */
function unrolling({ rows, cols, vectors, params }: Rows, device: DeviceInfo): { UNROLL: number; block: number } {
  const pays = device.kind !== "software" || rows * cols >= 2 ** 20;
  const UNROLL = pays && vectors % (2 * params.LANES) === 0 ? 2 : 1;
  const step = UNROLL * params.LANES;
  return { UNROLL, block: Math.ceil(Math.sqrt(vectors / step)) * step };
}

function softmaxKernel(kernel: "softmax" | "softmax_backward", LOG: number): Lower {
  return (node, cx) => {
    const r = tunedSchedule(kernel, node.shape, cx);
    if (r.rows === 0) return [];
    const forward = kernel === "softmax";
    const { UNROLL, block } = unrolling(r, cx.device);
    return [
      {
        kernel,
        params: { ...r.params, LOG, ...(forward && { UNROLL, U: r.params.WIDTH === 4 ? "vec4u" : "u32" }) },
        dims: [r.rows, r.vectors, ...(forward ? [block] : [])],
        bind: [...node.src.map((_, i) => cx.operand(i).buffer), cx.output()],
        grid: r.grid,
        prologues: [prologue(r.space, 2)],
        epilogue: { ...r.space, store: { at: "at" } },
      },
    ];
  };
}

/** x [..., C] -> y. */
export const lowerSoftmax = softmaxKernel("softmax", 0);
export const lowerLogSoftmax = softmaxKernel("softmax", 1);
/** g, y [..., C] -> dx. */
export const lowerSoftmaxBackward = softmaxKernel("softmax_backward", 0);
export const lowerLogSoftmaxBackward = softmaxKernel("softmax_backward", 1);

/** (x [..., C], weight? [C], bias? [C]), attrs { eps } -> y. */
export const lowerLayerNorm: Lower = (node, cx) => lowerNorm(node, cx, true);
export const lowerRmsNorm: Lower = (node, cx) => lowerNorm(node, cx, false);

function lowerNorm(node: Node, cx: LowerContext, center: boolean): KernelCall[] {
  const r = tunedSchedule("norm", node.shape, cx);
  if (r.rows === 0) return [];
  const [x, weight, bias] = node.src.map((_, i) => cx.operand(i).buffer);
  const { UNROLL, block } = unrolling(r, cx.device);
  return [
    {
      kernel: "norm",
      params: { ...r.params, UNROLL, CENTER: Number(center), WEIGHT: Number(!!weight), BIAS: Number(!!bias) },
      dims: [r.rows, r.vectors, block, floatBits(node.attrs.eps as number)],
      bind: [x, weight ?? x, bias ?? weight ?? x, cx.output()],
      grid: r.grid,
      prologues: [prologue(r.space, center ? 3 : 2)],
      epilogue: { ...r.space, store: { at: "at" } },
    },
  ];
}

/** (g [..., C], x [..., C], weight? [C]), attrs { eps } -> dx, then dweight and dbias if the node has outputs for them. */
export const lowerLayerNormBackward: Lower = (node, cx) => lowerNormBackward(node, cx, true);
export const lowerRmsNormBackward: Lower = (node, cx) => lowerNormBackward(node, cx, false);

const MIN_SLAB = 32; // rows per workgroup. Fewer cost more time for partial sums than they save.
const MAX_STEPS = 24; // additions to a sum over the rows of a slab. sum_parts.wgsl adds the slabs with compensation.

/** Invocations per workgroup, rows that they compute at a time, and whether they form one subgroup. */
interface ColumnSchedule extends Candidate {
  readonly WG: number;
  readonly ROWS: number;
  readonly subgroup: boolean;
}

/**
 * The heuristic's schedule, then others. On GPUs adjacent invocations read adjacent columns.
 * On software adapters barriers are expensive, so a workgroup is one subgroup. It takes one row per lane, if there are enough.
 */
function columnSchedules(rows: number, cols: number, device: DeviceInfo): ColumnSchedule[] {
  const SG = device.subgroupSize || 8;
  const vectors = Math.ceil(cols / 4);
  if (device.kind === "software") {
    const subgroup = device.subgroupSize > 0;
    return (rows >= 16 ? [SG, 1] : [1, SG]).map((ROWS) => ({ WG: SG, ROWS, subgroup }));
  }
  const WG = Math.min(256, device.maxInvocations, Math.max(32, powerBelow(vectors)));
  const others = [32, 64, 128, 256].filter((n) => n !== WG && n <= Math.min(2 * vectors, device.maxInvocations));
  return [WG, ...others].flatMap((n) => [4, 8].map((ROWS) => ({ WG: n, ROWS, subgroup: false })));
}

/** Hooks that replace workgroup memory and barriers in a workgroup of one subgroup, for one row or for one row per lane. */
const subgroupHooks = (ROWS: number): KernelCall["reads"] => ({
  directives: "enable subgroups;",
  hooks:
    ROWS === 1
      ? { across: "return subgroupAdd(v);", share_stats: "", row_stat: "return v;" }
      : { across: "return v;", share_stats: "", row_stat: "return subgroupShuffle(v, r);" },
});

function lowerNormBackward(node: Node, cx: LowerContext, center: boolean): KernelCall[] | undefined {
  const outputs = node.outputs?.length ?? 1;
  const [rows, cols] = rowsOf(node.src[1].shape);
  if (cols === 0 || (rows === 0 && outputs === 1)) return [];
  if (rows === 0) return undefined; // the fallback gives the sums over no rows: zeros
  const WIDTH = cols % 4 === 0 ? 4 : 1;
  const V = WIDTH === 4 ? "vec4f" : "f32";
  const candidates = columnSchedules(rows, cols, cx.device);
  const { WG, ROWS, subgroup } = cx.choose("norm_backward", { rows, cols, outputs }, candidates);
  const [g, x, weight] = node.src.map((_, i) => cx.operand(i).buffer);
  const maxSlabs = outputs === 1 ? Infinity : Math.min(4 * busyGroups(cx.device), Math.ceil(rows / MIN_SLAB));
  const steps = Math.ceil(rows / Math.min(maxSlabs, Math.ceil(rows / ROWS)) / ROWS);
  const slab = ROWS * (outputs === 1 ? steps : Math.min(steps, MAX_STEPS));
  const slabs = Math.ceil(rows / slab);
  const results = Array.from({ length: outputs - 1 }, (_, i) => cx.output(i + 1));
  const parts = results.map((out) => (slabs > 1 ? cx.temp(4 * slabs * cols) : out));
  const flags = { CENTER: center, WEIGHT: !!weight, VECTORS: outputs > 1, BIAS: outputs > 2 };
  const main: KernelCall = {
    kernel: "norm_backward",
    params: {
      WG,
      ROWS,
      WIDTH,
      V,
      ...Object.fromEntries(Object.entries(flags).map(([name, on]) => [name, Number(on)])),
    },
    reads: subgroup ? subgroupHooks(ROWS) : undefined,
    dims: [rows, cols / WIDTH, floatBits(node.attrs.eps as number), slab],
    bind: [g, x, weight ?? x, cx.output(0), parts[0] ?? cx.temp(16), parts[1] ?? cx.temp(16)],
    grid: grid2d(slabs),
    prologues: [prologue({ shape: [1, rows, cols], type: V }, 2)],
  };
  if (slabs === 1) return [main];
  return [main, ...results.map((out, i) => ({ ...sumParts(parts[i], out, slabs, 1, cols), epilogue: undefined }))];
}
