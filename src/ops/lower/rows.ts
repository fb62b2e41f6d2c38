import type { BufferRef, KernelCall, Lower } from "../../compile/lower.ts";
import type { Shape } from "../../shape.ts";
import { numel } from "../../shape.ts";
import type { DeviceInfo } from "../../runtime/device.ts";
import { grid2d } from "./grid.ts";

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
    rows, cols, vectors,
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
    return [{
      kernel, params: { ...r.params, ...params }, dims: [r.rows, r.vectors],
      bind: [...bind, cx.output()], grid: r.grid, epilogue: r.epilogue,
    }];
  };
}

/** x [..., C] -> y. */
export const lowerSoftmax = rowKernel("softmax", { LOG: 0 }, 1);
export const lowerLogSoftmax = rowKernel("softmax", { LOG: 1 }, 1);
/** g, y [..., C] -> dx. */
export const lowerSoftmaxBackward = rowKernel("softmax_backward", { LOG: 0 }, 2);
export const lowerLogSoftmaxBackward = rowKernel("softmax_backward", { LOG: 1 }, 2);
