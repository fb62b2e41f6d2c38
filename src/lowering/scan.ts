import type { DeviceInfo } from "../graph/device-info.ts";
import type { BufferRef, KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { numel } from "../graph/shape.ts";
import { grid2d } from "./grid.ts";

const kinds = ["sum", "product", "largest", "smallest", "logsumexp", "recurrence"];

/** How invocations share rows: `tiles` per row, LANES invocations per tile, `stretch` columns per invocation. */
interface Tiling {
  readonly WG: number;
  readonly LANES: number;
  readonly tiles: number;
  readonly stretch: number;
}

const powerBelow = (n: number): number => 2 ** Math.floor(Math.log2(Math.max(n, 1)));

/** Rows in one tile each. */
function whole(rows: number, cols: number, device: DeviceInfo): Tiling {
  const software = device.kind === "software";
  const most = software ? (rows >= 16 ? 1 : 8) : Math.min(256, device.maxInvocations);
  const LANES = Math.min(most, powerBelow(cols));
  return { WG: Math.max(LANES, software ? 8 : 64), LANES, tiles: 1, stretch: Math.ceil(cols / LANES) };
}

/**
 * Few long rows are cut into tiles. On software adapters an invocation takes a tile, because barriers are expensive; on GPUs a
 * workgroup does, with 16 columns per invocation.
 */
function tiling(rows: number, cols: number, device: DeviceInfo): Tiling {
  if (device.kind === "software") {
    if (rows >= 16 || cols <= 4096) return whole(rows, cols, device);
    const stretch = Math.max(256, Math.ceil((rows * cols) / 4096));
    return { WG: 8, LANES: 1, tiles: Math.ceil(cols / stretch), stretch };
  }
  const LANES = Math.min(256, device.maxInvocations);
  const stretch = 16;
  if (rows >= 1024 || cols <= 2 * LANES * stretch) return whole(rows, cols, device);
  return { WG: LANES, LANES, tiles: Math.ceil(cols / (LANES * stretch)), stretch };
}

/** x (of a recurrence a and b), attrs of `scan` -> running totals along the dim. */
export const lowerScan: Lower = (node, cx) => {
  const { kind, dim, reverse } = node.attrs as { kind: string; dim: number; reverse: boolean };
  return scanCalls(node, cx, kinds.indexOf(kind), dim, reverse);
};

/** x [..., C] -> running sums along C. */
export const lowerCumsum: Lower = (node, cx) => scanCalls(node, cx, 0, node.shape.length - 1, false);

function scanCalls(node: Node, cx: LowerContext, KIND: number, dim: number, reverse: boolean): KernelCall[] {
  const { shape } = node;
  if (numel(shape) === 0) return [];
  const { dtype } = node.src[0];
  const [x, b] = node.src.map((_, i) => cx.operand(i).buffer);
  return scanInto(cx, x, b ?? x, cx.output(), {
    KIND,
    TYPE: dtype === "i32" ? 1 : dtype === "u32" ? 2 : 0,
    cols: shape[dim],
    rows: numel(shape) / shape[dim],
    inner: numel(shape.slice(dim + 1)),
    reverse,
  });
}

/** y [rows, cols] = running sums of x u32 [rows, cols], for other lowerings. */
export const runningSums = (cx: LowerContext, x: BufferRef, y: BufferRef, rows: number, cols: number): KernelCall[] =>
  scanInto(cx, x, x, y, { KIND: 0, TYPE: 2, rows, cols, inner: 1, reverse: false });

interface Scan {
  readonly KIND: number;
  readonly TYPE: number;
  readonly rows: number;
  readonly cols: number;
  readonly inner: number;
  readonly reverse: boolean;
}

function scanInto(
  cx: LowerContext,
  x: BufferRef,
  b: BufferRef,
  y: BufferRef,
  { KIND, TYPE, rows, cols, inner, reverse }: Scan,
): KernelCall[] {
  const call = (
    { WG, LANES, tiles, stretch }: Tiling,
    flags: { TOTALS?: number; STATES?: number; CARRY?: number },
    width: number,
    states: BufferRef,
    out: { y?: BufferRef; states?: BufferRef },
  ): KernelCall => ({
    kernel: "scan",
    params: { WG, LANES, KIND, TYPE, ...flags },
    dims: [rows, width, flags.STATES ? 1 : inner, tiles, stretch, Number(reverse && !flags.STATES), 0],
    bind: [x, b, states, out.y ?? cx.temp(16), out.states ?? cx.temp(16)],
    grid: grid2d(Math.ceil((rows * tiles * LANES) / WG)),
  });
  const tiles = tiling(rows, cols, cx.device);
  if (tiles.tiles === 1) return [call(tiles, {}, cols, x, { y })];
  const [totals, carries] = [cx.temp(16 * rows * tiles.tiles), cx.temp(16 * rows * tiles.tiles)];
  return [
    call(tiles, { TOTALS: 1 }, cols, x, { states: totals }),
    call(whole(rows, tiles.tiles, cx.device), { STATES: 1 }, tiles.tiles, totals, { states: carries }),
    call(tiles, { CARRY: 1 }, cols, carries, { y }),
  ];
}
