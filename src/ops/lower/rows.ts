import type { BufferRef, Candidate, KernelCall, Lower, LowerContext } from "../../compile/lower.ts";
import { floatBits } from "../../dtype.ts";
import type { Node } from "../../node.ts";
import type { DeviceInfo } from "../../runtime/device.ts";
import type { Shape } from "../../shape.ts";
import { numel } from "../../shape.ts";
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
  readonly space: NonNullable<KernelCall["epilogue"]>;
}

/** Lanes of a workgroup, lanes per row, and columns that a lane reads at once. */
interface Schedule extends Candidate {
  readonly WG: number;
  readonly LANES: number;
  readonly WIDTH: number;
}

/**
 * Lanes per row: 1 on software adapters with enough rows to fill a subgroup per core (loads cost the same in any
 * pattern there, barriers are dear); elsewhere a power of two near the number of vectors, so that loads coalesce. Kernels
 * that add up columns too (`columns`) want several rows in a workgroup.
 */
function heuristic(rows: number, cols: number, device: DeviceInfo, columns: boolean): Schedule {
  const WIDTH = cols % 4 === 0 ? 4 : 1;
  const software = device.kind === "software";
  if (software) return { WG: 8, LANES: rows >= 16 ? 1 : Math.min(8, powerBelow(cols / WIDTH)), WIDTH };
  const most = Math.min(256, device.maxInvocations);
  const lanes = Math.min(columns ? most / 4 : most, powerBelow(cols / WIDTH));
  return { WG: columns ? most : Math.max(lanes, 64), LANES: lanes, WIDTH };
}

const powerBelow = (n: number): number => 2 ** Math.floor(Math.log2(Math.max(n, 1)));

/** The heuristic's schedule, then others for the tuner: lanes per row and rows per workgroup. */
function schedules(rows: number, cols: number, device: DeviceInfo, columns: boolean): Schedule[] {
  const first = heuristic(rows, cols, device, columns);
  const pairs = [
    ...(device.kind === "software"
      ? [
          [8, 1],
          [16, 1],
          [32, 1],
          [8, 8],
        ]
      : []),
    ...(device.kind === "software"
      ? []
      : [
          [64, 16],
          [64, 32],
          [64, 64],
          [128, 128],
          [256, 32],
          [256, 64],
          [256, 256],
        ]),
  ];
  const fits = ([WG, LANES]: number[]): boolean =>
    WG <= device.maxInvocations &&
    LANES <= powerBelow(cols / first.WIDTH) &&
    !(WG === first.WG && LANES === first.LANES) &&
    WG / LANES < 2 * rows;
  const others = pairs.filter(fits).map(([WG, LANES]) => ({ ...first, WG, LANES }));
  return [first, ...others, ...(first.WIDTH > 1 ? [{ ...first, WIDTH: 1 }] : [])];
}

/** The heuristic's way to cover a tensor. */
export const rowSchedule = (shape: Shape, device: DeviceInfo): Rows => {
  const [rows, cols] = rowsOf(shape);
  return covering(rows, cols, heuristic(rows, cols, device, false));
};

function rowsOf(shape: Shape): [rows: number, cols: number] {
  const cols = shape[shape.length - 1] ?? 1;
  return [cols === 0 ? 0 : numel(shape) / cols, cols];
}

/** The chosen way to cover a tensor by `kernel`. */
function chosen(kernel: string, shape: Shape, cx: LowerContext, columns = false): Rows {
  const [rows, cols] = rowsOf(shape);
  if (rows === 0) return rowSchedule(shape, cx.device);
  return covering(
    rows,
    cols,
    cx.choose(kernel, { rows, cols, columns: Number(columns) }, schedules(rows, cols, cx.device, columns)),
  );
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

function rowKernel(kernel: string, params: KernelCall["params"], sources: number): Lower {
  return (node, cx) => {
    const r = chosen(kernel, node.shape, cx);
    if (r.rows === 0) return [];
    const bind: BufferRef[] = Array.from({ length: sources }, (_, i) => cx.operand(i).buffer);
    return [
      {
        kernel,
        params: { ...r.params, ...params },
        dims: [r.rows, r.vectors],
        bind: [...bind, cx.output()],
        grid: r.grid,
        prologue: { ...r.space, readings: 2 },
        epilogue: r.space,
      },
    ];
  };
}

/** x [..., C] -> y. */
export const lowerSoftmax = rowKernel("softmax", { LOG: 0 }, 1);
export const lowerLogSoftmax = rowKernel("softmax", { LOG: 1 }, 1);
/** g, y [..., C] -> dx. */
export const lowerSoftmaxBackward = rowKernel("softmax_backward", { LOG: 0 }, 2);
export const lowerLogSoftmaxBackward = rowKernel("softmax_backward", { LOG: 1 }, 2);

/** (x [..., C], weight? [C], bias? [C]), attrs { eps } -> y. */
export const lowerLayerNorm: Lower = (node, cx) => lowerNorm(node, cx, true);
export const lowerRmsNorm: Lower = (node, cx) => lowerNorm(node, cx, false);

function lowerNorm(node: Node, cx: LowerContext, center: boolean): KernelCall[] {
  const r = chosen("norm", node.shape, cx);
  if (r.rows === 0) return [];
  const [x, weight, bias] = node.src.map((_, i) => cx.operand(i).buffer);
  const TURN = r.vectors % (2 * r.params.LANES) === 0 ? 2 : 1; // a turn of the loop costs as much as a load
  return [
    {
      kernel: "norm",
      params: { ...r.params, TURN, CENTER: Number(center), WEIGHT: Number(!!weight), BIAS: Number(!!bias) },
      dims: [r.rows, r.vectors, floatBits(node.attrs.eps as number)],
      bind: [x, weight ?? x, bias ?? weight ?? x, cx.output()],
      grid: r.grid,
      prologue: { ...r.space, readings: center ? 3 : 2 },
      epilogue: r.space,
    },
  ];
}

/** (g [..., C], x [..., C], weight? [C]), attrs { eps } -> dx, and, as far as the node has outputs for them, dweight, dbias. */
export const lowerLayerNormBackward: Lower = (node, cx) => lowerNormBackward(node, cx, true);
export const lowerRmsNormBackward: Lower = (node, cx) => lowerNormBackward(node, cx, false);

const SLAB = 32; // rows of a workgroup at least: fewer make more partial sums than they save time

function lowerNormBackward(node: Node, cx: LowerContext, center: boolean): KernelCall[] | undefined {
  const outputs = node.outputs?.length ?? 1;
  const [count, size] = rowsOf(node.src[1].shape);
  if (size === 0 || (count === 0 && outputs === 1)) return [];
  if (count === 0) return undefined; // zeros
  const r = chosen("norm_backward", node.src[1].shape, cx, outputs > 1);
  const [g, x, weight] = node.src.map((_, i) => cx.operand(i).buffer);
  const block = r.params.WG / r.params.LANES;
  const wanted = outputs === 1 ? Infinity : Math.min(4 * busyGroups(cx.device), Math.ceil(r.rows / SLAB));
  const slab = Math.ceil(r.rows / Math.min(wanted, Math.ceil(r.rows / block)) / block) * block;
  const slabs = Math.ceil(r.rows / slab);
  const results = Array.from({ length: outputs - 1 }, (_, i) => cx.output(i + 1));
  const parts = results.map((out) => (slabs > 1 ? cx.temp(4 * slabs * r.cols) : out));
  const flags = { CENTER: center, WEIGHT: !!weight, VECTORS: outputs > 1, BIAS: outputs > 2 };
  const main: KernelCall = {
    kernel: "norm_backward",
    params: { ...r.params, ...Object.fromEntries(Object.entries(flags).map(([name, on]) => [name, Number(on)])) },
    dims: [r.rows, r.vectors, floatBits(node.attrs.eps as number), slab],
    bind: [g, x, weight ?? x, cx.output(0), parts[0] ?? cx.temp(16), parts[1] ?? cx.temp(16)],
    grid: grid2d(slabs),
    prologue: { ...r.space, readings: outputs > 1 ? 3 : 2 },
  };
  if (slabs === 1) return [main];
  return [main, ...results.map((out, i) => ({ ...sumParts(parts[i], out, slabs, 1, 1, r.cols), epilogue: undefined }))];
}
