import type { DeviceInfo } from "../graph/device-info.ts";
import { floatBits } from "../graph/dtype.ts";
import type { Candidate, HookSpace, KernelCall, Lower, LowerContext, Prologue } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import type { Shape } from "../graph/shape.ts";
import { numel } from "../graph/shape.ts";
import { busyGroups, grid2d, sumParts } from "./grid.ts";

/** A contiguous tensor as rows of its last dim, and how a row kernel covers them. */
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

/** Lanes of a workgroup, lanes per row, and columns that a lane reads at once. */
interface Schedule extends Candidate {
  readonly WG: number;
  readonly LANES: number;
  readonly WIDTH: number;
}

/**
 * Lanes per row: 1 on software adapters with enough rows to fill a subgroup per core (loads cost the same in any
 * pattern there, barriers are dear); elsewhere a power of two near the number of vectors, so that loads coalesce.
 */
function heuristic(rows: number, cols: number, device: DeviceInfo): Schedule {
  const WIDTH = cols % 4 === 0 ? 4 : 1;
  const software = device.kind === "software";
  if (software) return { WG: 8, LANES: rows >= 16 ? 1 : Math.min(8, powerBelow(cols / WIDTH)), WIDTH };
  const LANES = Math.min(256, device.maxInvocations, powerBelow(cols / WIDTH));
  return { WG: Math.max(LANES, 64), LANES, WIDTH };
}

const powerBelow = (n: number): number => 2 ** Math.floor(Math.log2(Math.max(n, 1)));

/** The heuristic's schedule, then others for the tuner: lanes per row, rows per workgroup, scalars for vectors. */
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

/** The heuristic's way to cover a tensor. */
export const rowSchedule = (shape: Shape, device: DeviceInfo): Rows => {
  const [rows, cols] = rowsOf(shape);
  return covering(rows, cols, heuristic(rows, cols, device));
};

function rowsOf(shape: Shape): [rows: number, cols: number] {
  const cols = shape[shape.length - 1] ?? 1;
  return [cols === 0 ? 0 : numel(shape) / cols, cols];
}

/** The chosen way to cover a tensor by `kernel`. */
function chosen(kernel: string, shape: Shape, cx: LowerContext): Rows {
  const [rows, cols] = rowsOf(shape);
  if (rows === 0) return rowSchedule(shape, cx.device);
  return covering(rows, cols, cx.choose(kernel, { rows, cols }, schedules(rows, cols, cx.device)));
}

function covering(rows: number, cols: number, { WG, LANES, WIDTH }: Schedule): Rows {
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

/** Row kernels read their first source through `fn load`, later times through `fn reload`. */
const prologue = (space: HookSpace, readings: number): Prologue => ({
  ...space,
  source: 0,
  first: "load",
  again: "reload",
  readings,
  copies: readings,
});

/**
 * Vectors a lane does in a turn of its loops, and in a block of their sums: √n of n turns. A turn costs as much as a load, but
 * two vectors a turn compile longer on software adapters: small tensors never earn it.
 */
function unrolling({ rows, cols, vectors, params }: Rows, device: DeviceInfo): { UNROLL: number; block: number } {
  const pays = device.kind !== "software" || rows * cols >= 2 ** 20;
  const UNROLL = pays && vectors % (2 * params.LANES) === 0 ? 2 : 1;
  const step = UNROLL * params.LANES;
  return { UNROLL, block: Math.ceil(Math.sqrt(vectors / step)) * step };
}

function softmaxKernel(kernel: "softmax" | "softmax_backward", LOG: number): Lower {
  return (node, cx) => {
    const r = chosen(kernel, node.shape, cx);
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
  const r = chosen("norm", node.shape, cx);
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

/** (g [..., C], x [..., C], weight? [C]), attrs { eps } -> dx, and, as far as the node has outputs for them, dweight, dbias. */
export const lowerLayerNormBackward: Lower = (node, cx) => lowerNormBackward(node, cx, true);
export const lowerRmsNormBackward: Lower = (node, cx) => lowerNormBackward(node, cx, false);

const SLAB = 32; // rows of a workgroup at least: fewer make more partial sums than they save time

/** Lanes of a workgroup, the rows that they do at a time, and whether they are one subgroup. */
interface Columns extends Candidate {
  readonly WG: number;
  readonly ROWS: number;
  readonly subgroup: boolean;
}

/**
 * The heuristic's way to share rows and columns, then others. On software adapters a subgroup does, since barriers are dear,
 * with a row a lane if there are enough; elsewhere neighbours read neighbours.
 */
function columnSchedules(rows: number, cols: number, device: DeviceInfo): Columns[] {
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

/** What replaces workgroup memory and barriers where a workgroup is one subgroup, which does one row or one a lane. */
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
  if (rows === 0) return undefined; // zeros
  const WIDTH = cols % 4 === 0 ? 4 : 1;
  const V = WIDTH === 4 ? "vec4f" : "f32";
  const candidates = columnSchedules(rows, cols, cx.device);
  const { WG, ROWS, subgroup } = cx.choose("norm_backward", { rows, cols, outputs }, candidates);
  const [g, x, weight] = node.src.map((_, i) => cx.operand(i).buffer);
  const wanted = outputs === 1 ? Infinity : Math.min(4 * busyGroups(cx.device), Math.ceil(rows / SLAB));
  const slab = Math.ceil(rows / Math.min(wanted, Math.ceil(rows / ROWS)) / ROWS) * ROWS;
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
