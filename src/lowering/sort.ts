import type { DeviceInfo } from "../graph/device-info.ts";
import type { DType } from "../graph/dtype.ts";
import type { BufferRef, KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import { numel } from "../graph/shape.ts";
import { grid2d } from "./grid.ts";
import { rowSchedule } from "./rows.ts";
import { runningSums } from "./scan.ts";

/** Elements that a workgroup sorts in its memory. On software adapters its barriers are expensive. */
const mostInGroup = ({ kind }: DeviceInfo): number => (kind === "software" ? 31 : 1024);

/** How kernels order the bits of a dtype. Booleans are the words 0 and 1. */
const typeOf = (dtype: DType): number => (dtype === "i32" ? 1 : dtype === "u32" || dtype === "bool" ? 2 : 0);
const powerAbove = (n: number): number => 2 ** Math.ceil(Math.log2(n));

/** x [..., C], attrs { descending } -> positions that sort each row, i32 [..., C]. */
export const lowerArgsort: Lower = (node, cx) => {
  const { shape, dtype } = node.src[0];
  const cols = shape[shape.length - 1];
  if (numel(shape) === 0) return [];
  const rows = numel(shape) / cols;
  const order = { TYPE: typeOf(dtype), DESCENDING: Number(node.attrs.descending) };
  const x = cx.operand(0).buffer;
  return cols <= mostInGroup(cx.device) ? [sortRows(cx, x, rows, cols, order)] : radixSort(cx, x, rows, cols, order);
};

interface Order {
  readonly TYPE: number;
  readonly DESCENDING: number;
}

/** Short rows: several per workgroup, in its memory. */
function sortRows(cx: LowerContext, x: BufferRef, rows: number, cols: number, order: Order): KernelCall {
  const software = cx.device.kind === "software";
  const SIZE = Math.max(2, powerAbove(cols));
  const WG = software ? 8 : Math.min(256, cx.device.maxInvocations, Math.max(64, SIZE / 2));
  const ROWS = Math.max(1, (2 * WG) / SIZE);
  return {
    kernel: "sort_rows",
    params: { WG, SIZE, ROWS, ...order },
    dims: [rows, cols],
    bind: [x, cx.output()],
    grid: grid2d(Math.ceil(rows / ROWS)),
  };
}

/** How a pass divides rows: digits of `bits`, `tiles` per row, `invocations` per tile. */
interface Radix {
  readonly suffix: "" | "_serial";
  readonly bits: number;
  readonly tiles: number;
  readonly stretch: number;
  readonly grid: [number, number, number];
  readonly params: Readonly<Record<string, number>>;
}

function radixOf(rows: number, cols: number, cx: LowerContext): Radix {
  if (cx.device.kind === "software") {
    const wanted = rows >= 64 ? 1 : Math.min(64, Math.ceil(cols / 2048));
    const stretch = Math.ceil(cols / wanted);
    const tiles = Math.ceil(cols / stretch);
    const bits = cols < 256 ? 4 : 8; // the counts of the digits are no larger than the rows
    return {
      suffix: "_serial",
      bits,
      tiles,
      stretch,
      grid: grid2d(Math.ceil((rows * tiles) / 8)),
      params: { WG: 8, DIGITS: 2 ** bits },
    };
  }
  const WG = Math.min(256, cx.device.maxInvocations);
  const ITEMS = 8;
  const tiles = Math.ceil(cols / (WG * ITEMS));
  return { suffix: "", bits: 4, tiles, stretch: 0, grid: grid2d(rows * tiles), params: { WG, ITEMS } };
}

/** Long rows: one pass per digit of the keys, the lowest first. Keys and positions move between two pairs of buffers. */
function radixSort(cx: LowerContext, x: BufferRef, rows: number, cols: number, order: Order): KernelCall[] {
  const { suffix, bits, tiles, stretch, grid, params } = radixOf(rows, cols, cx);
  const digits = (): BufferRef => cx.temp(4 * rows * 2 ** bits * tiles);
  const [counts, ends] = [digits(), digits()];
  const cursors = suffix ? [digits()] : [];
  const buffers = [0, 1].map(() => ({ keys: cx.temp(4 * rows * cols), positions: cx.temp(4 * rows * cols) }));
  const passes = 32 / bits;
  return Array.from({ length: passes }, (_, pass): KernelCall[] => {
    const [from, to] = [buffers[(pass + 1) % 2], buffers[pass % 2]];
    const first = pass === 0;
    const last = pass === passes - 1;
    const own = { ...params, ...(first ? order : { TYPE: 0, DESCENDING: 0 }), FIRST: Number(first) };
    const dims = [rows, cols, tiles, pass * bits, stretch];
    const keys = first ? x : from.keys;
    const positions = [first ? x : from.positions, ends, to.keys, last ? cx.output() : to.positions];
    return [
      { kernel: `radix_count${suffix}`, params: own, dims, bind: [keys, counts], grid },
      ...runningSums(cx, counts, ends, rows, 2 ** bits * tiles),
      {
        kernel: `radix_scatter${suffix}`,
        params: { ...own, LAST: Number(last) },
        dims,
        bind: [keys, ...positions, ...cursors],
        grid,
      },
    ];
  }).flat();
}

/** (sorted [..., L] or [L], values [..., C]), attrs { right } -> i32 [..., C]. */
export const lowerSearchsorted: Lower = (node, cx) => {
  const [sorted, values] = node.src;
  const count = numel(values.shape);
  if (count === 0) return [];
  const length = sorted.shape[sorted.shape.length - 1];
  const cols = values.shape[values.shape.length - 1] ?? 1;
  const WG = cx.device.kind === "software" ? 8 : 64;
  return [
    {
      kernel: "searchsorted",
      params: { WG, TYPE: typeOf(sorted.dtype), RIGHT: Number(node.attrs.right) },
      dims: [count, cols, length, sorted.shape.length === 1 ? 0 : length],
      bind: [cx.operand(0).buffer, cx.operand(1).buffer, cx.output()],
      grid: grid2d(Math.ceil(count / WG)),
    },
  ];
};

/** x [..., C], attrs { k, largest } -> positions of the k largest or smallest of each row, i32 [..., k]. */
export const lowerTopk: Lower = (node, cx) => {
  const { shape, dtype } = node.src[0];
  const r = rowSchedule(shape, cx.device);
  if (r.rows === 0) return [];
  const { k, largest } = node.attrs as { k: number; largest: boolean };
  return [
    {
      kernel: "topk",
      params: { WG: r.params.WG, LANES: r.params.LANES, TYPE: typeOf(dtype), SMALLEST: Number(!largest) },
      dims: [r.rows, r.cols, k],
      bind: [cx.operand(0).buffer, cx.output()],
      grid: r.grid,
    },
  ];
};
