import type { BufferRef, KernelCall, Lower, LowerContext } from "../../compile/lower.ts";
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
  readonly epilogue: NonNullable<KernelCall["epilogue"]>;
}

/**
 * Lanes per row: 1 on software adapters with enough rows to fill a subgroup per core (loads cost the same in any
 * pattern there, barriers are dear); elsewhere a power of two near the number of vectors, so that loads coalesce.
 */
export function rowSchedule(shape: Shape, device: DeviceInfo): Rows {
  const cols = shape[shape.length - 1] ?? 1;
  const rows = cols === 0 ? 0 : numel(shape) / cols;
  const vec = cols % 4 === 0;
  const vectors = vec ? cols / 4 : cols;
  const software = device.kind === "software";
  const most = software ? 8 : Math.min(256, device.maxInvocations);
  const LANES = software && rows >= 16 ? 1 : Math.min(most, 2 ** Math.floor(Math.log2(Math.max(vectors, 1))));
  const WG = Math.max(LANES, software ? 8 : 64);
  return {
    rows,
    cols,
    vectors,
    params: { WG, LANES, WIDTH: vec ? 4 : 1, V: vec ? "vec4f" : "f32" },
    grid: grid2d(Math.ceil(rows / (WG / LANES))),
    epilogue: { shape: [1, rows, cols], type: vec ? "vec4f" : "f32" },
  };
}

function rowKernel(kernel: string, params: KernelCall["params"], sources: number): Lower {
  return (node, cx) => {
    const r = rowSchedule(node.shape, cx.device);
    if (r.rows === 0) return [];
    const bind: BufferRef[] = Array.from({ length: sources }, (_, i) => cx.operand(i).buffer);
    return [
      {
        kernel,
        params: { ...r.params, ...params },
        dims: [r.rows, r.vectors],
        bind: [...bind, cx.output()],
        grid: r.grid,
        epilogue: r.epilogue,
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
  const r = rowSchedule(node.shape, cx.device);
  if (r.rows === 0) return [];
  const [x, weight, bias] = node.src.map((_, i) => cx.operand(i).buffer);
  const TURN = r.vectors % (2 * r.params.LANES) === 0 ? 2 : 1; // a turn of the loop costs as much as a load
  return [
    {
      kernel: "norm",
      params: { ...r.params, TURN, CENTER: Number(center), WEIGHT: Number(!!weight), BIAS: Number(!!bias) },
      dims: [r.rows, r.vectors, floatBits(node.attrs.eps as number)],
      bind: [x, weight ?? x, bias ?? x, cx.output()],
      grid: r.grid,
      epilogue: r.epilogue,
    },
  ];
}

/** (g [..., C], x [..., C], weight? [C]), attrs { eps } -> dx, and, as far as the node has outputs for them, dweight, dbias. */
export const lowerLayerNormBackward: Lower = (node, cx) => lowerNormBackward(node, cx, true);
export const lowerRmsNormBackward: Lower = (node, cx) => lowerNormBackward(node, cx, false);

function lowerNormBackward(node: Node, cx: LowerContext, center: boolean): KernelCall[] {
  const outputs = node.outputs?.length ?? 1;
  const r = rowSchedule(node.src[1].shape, cx.device);
  if (r.cols === 0) return [];
  const [g, x, weight] = node.src.map((_, i) => cx.operand(i).buffer);
  const stats = outputs > 1 ? cx.temp(8 * Math.max(r.rows, 1)) : cx.temp(16);
  const calls: KernelCall[] = [];
  if (r.rows > 0) {
    calls.push({
      kernel: "norm_backward",
      params: { ...r.params, CENTER: Number(center), WEIGHT: Number(!!weight), STATS: Number(outputs > 1) },
      dims: [r.rows, r.vectors, floatBits(node.attrs.eps as number)],
      bind: [g, x, weight ?? x, cx.output(0), stats],
      grid: r.grid,
    });
  }
  if (outputs === 1) return calls;

  const WG = cx.device.kind === "software" ? 8 : 64;
  const groups = Math.ceil(r.vectors / WG);
  const slabs = Math.max(1, Math.min(Math.ceil((4 * busyGroups(cx.device)) / groups), Math.floor(r.rows / 32)));
  const slab = Math.ceil(r.rows / slabs);
  const results = [cx.output(1), ...(outputs > 2 ? [cx.output(2)] : [])];
  const parts = slabs > 1 ? results.map(() => cx.temp(4 * slabs * r.cols)) : results;
  calls.push({
    kernel: "norm_weights",
    params: { WG, BIAS: Number(outputs > 2), WIDTH: r.params.WIDTH, V: r.params.V },
    dims: [r.rows, r.vectors, slab],
    bind: [g, x, stats, parts[0], parts[1] ?? cx.temp(16)],
    grid: [groups, slabs, 1],
  });
  if (slabs > 1)
    results.forEach((out, i) => calls.push({ ...sumParts(parts[i], out, slabs, 1, 1, r.cols), epilogue: undefined }));
  return calls;
}
