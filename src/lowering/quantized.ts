import type { DeviceInfo } from "../graph/device-info.ts";
import type { BufferRef, KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import { groupsOf, type QuantFormat, type QuantLayout } from "../graph/quantization.ts";
import { made, NEVER, NEVER_4, packed, reading } from "./formats.ts";
import { busyGroups, grid2d, sumParts } from "./grid.ts";
import { type FewRows, product, splitK } from "./matmul.ts";

const FORMAT: Record<QuantFormat, number> = { int8: 8, int4: 4, nf4: 0 };

/** (x [M, K or N], packed, scales), attrs { format, group, zeroPoint, activations, shape, transposed } -> [M, N or K]. */
export const lowerQuantizedMatmul: Lower = (node, cx) => {
  const { transposed, ...q } = node.attrs as unknown as QuantLayout & { transposed: boolean };
  const M = node.shape[0];
  const [N, K] = q.shape;
  const rounded = q.activations === "int8" ? roundRows(cx, q, M) : undefined;
  if (!transposed && M <= 8 && cx.device.subgroupSize > 0) {
    const signature = { M, N, K, format: q.format, activations: q.activations };
    const way = cx.choose("matvec_quantized", signature, ways(cx.device, M, q.format));
    if (way.lanes === "k") return [...(rounded ? [rounded.call] : []), fewRows(cx, q, M, way.columns, rounded)];
  }
  if (rounded) return [rounded.call, ...integers(cx, q, M, rounded)];
  const row = Math.ceil(K / q.group) * q.group; // of w, in elements
  const [inner, columns] = transposed ? [N, K] : [K, N];
  const none = [0, 0, 0];
  return product(cx, {
    M,
    N: columns,
    K: inner,
    sizes: [1, 1, 1],
    A: { offset: 0, batch: none, row: inner, column: 1 },
    B: { offset: 0, batch: none, row: transposed ? row : 1, column: transposed ? 1 : row },
    first: 0,
    only: true,
    packed: {
      group: q.group,
      reader: (hoisted) => packed(q.format, q.group, q.zeroPoint, cx.operand(2).buffer, hoisted),
    },
  });
};

/**
 * Lanes along k read whole lines of the codes, but unpack them for each row on its own: dear on software adapters, free
 * beside the memory elsewhere. Activations are loaded once for all columns of a subgroup, which pays while there are
 * subgroups enough, and lines of as many rows stay in the cache (int4: of 16, wherever the buffers lie). Lanes along n: a
 * tile of the matmul.
 */
function ways(device: DeviceInfo, M: number, format: QuantFormat): FewRows[] {
  const software = device.kind === "software";
  const alongK = (!software ? [8, 16, 4] : format === "int4" && M === 1 ? [16, 32, 8] : [32, 16, 8]).map(
    (columns): FewRows => ({ lanes: "k", columns }),
  );
  const alongN: FewRows = { lanes: "n", columns: 4 };
  const most = !software ? 8 : format === "nf4" ? 1 : 4;
  return M <= most ? [...alongK, alongN] : [alongN, ...alongK];
}

/** Activations in int8: codes [M, K padded to groups] and scales [M, groups]. */
interface Rounded {
  readonly call: KernelCall;
  readonly codes: BufferRef;
  readonly scales: BufferRef;
}

function roundRows(cx: LowerContext, q: QuantLayout, M: number): Rounded {
  const [K, groups] = [q.shape[1], groupsOf(q)];
  const vec = K % 4 === 0;
  const [codes, scales] = [cx.temp(M * groups * q.group), cx.temp(4 * M * groups)];
  const call: KernelCall = {
    kernel: "quantize_rows",
    params: { WG: 64, VEC: Number(vec), X: vec ? "vec4f" : "f32" },
    dims: [M, K, groups, q.group / 4],
    bind: [cx.operand(0).buffer, codes, scales],
    grid: grid2d(Math.ceil((M * groups) / 64)),
    prologues: [made(cx.operand(0).buffer, "x", 0, reading(vec, 2 * M * K, 2))],
  };
  return { call, codes, scales };
}

/** Where WGSL has no dot product of packed bytes. */
const DOT4 = `let at = vec4u(24u, 16u, 8u, 0u);
  return dot(vec4i(vec4u(x) << at) >> vec4u(24u), vec4i(vec4u(y) << at) >> vec4u(24u));`;

function integers(cx: LowerContext, q: QuantLayout, M: number, { codes, scales }: Rounded): KernelCall[] {
  const { device } = cx;
  const [[N, K], groups] = [q.shape, groupsOf(q)];
  const heights = (device.kind === "software" ? [2, 1, 4] : [4, 2, 1, 8]).filter((rows) => rows === 1 || rows <= M);
  const { rows } = cx.choose(
    "matmul_int8",
    { M, N, K, group: q.group },
    heights.map((rows) => ({ rows })),
  );
  const [rowTiles, columnTiles] = [Math.ceil(M / rows / 8), Math.ceil(N / 32)];
  const { splits, chunk } = splitK(groups * q.group, rowTiles * columnTiles, busyGroups(device) / 2, q.group);
  const out = splits > 1 ? cx.temp(4 * splits * M * N) : cx.output();
  const main: KernelCall = {
    kernel: "matmul_int8",
    params: { TM: rows },
    reads: device.dot4 ? undefined : { hooks: { dot4: DOT4 } },
    dims: [M, N, groups, q.group / 16, chunk / q.group, rowTiles, columnTiles, splits],
    bind: [codes, scales, cx.operand(1).buffer, cx.operand(2).buffer, out],
    grid: grid2d(rowTiles * columnTiles * splits),
    flops: 2 * M * N * K,
  };
  if (splits > 1) return [main, sumParts(out, cx.output(), splits, M, N)];
  return [{ ...main, epilogue: { shape: [1, M, N], type: "vec4f" } }];
}

/** Four values of row `row` from k on, of the chunk's group. */
const ROUNDED = `let code = vec4i(vec4u(a[row * dims.chunks * 8u + k / 4u]) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u);
  return vec4f(code) * a_scales[row * dims.groups + ((k / 32u) >> dims.shift)];`;

function fewRows(cx: LowerContext, q: QuantLayout, M: number, ROWS: number, rounded?: Rounded): KernelCall {
  const { format, group, zeroPoint } = q;
  const [[N, K], groups] = [q.shape, groupsOf(q)];
  const vec = K % 4 === 0;
  const TM = M > 2 ? 4 : M;
  const rowTiles = Math.ceil(M / TM);
  const [a, w, scales] = [0, 1, 2].map((i) => cx.operand(i).buffer);
  return {
    kernel: "matvec_quantized",
    params: {
      SG: cx.device.subgroupSize,
      TM,
      ROWS,
      FORMAT: FORMAT[format],
      ZEROS: Number(zeroPoint),
      VEC: Number(vec),
      A: rounded ? "u32" : vec ? "vec4f" : "f32",
    },
    reads: rounded && {
      hooks: { load_a: ROUNDED, a_1: NEVER, a_4: NEVER_4 },
      extraBindings: ["var<storage, read> a_scales: array<f32>"],
    },
    dims: [M, N, K, rowTiles, (groups * group) / 32, groups, Math.log2(group / 32)],
    bind: [rounded?.codes ?? a, w, scales, cx.output(), ...(rounded ? [rounded.scales] : [])],
    grid: grid2d(rowTiles * Math.ceil(N / ROWS)),
    prologues: rounded ? [] : [made(a, "a", 0, reading(vec, Math.ceil(N / ROWS) * M * K, 8 * TM))],
    epilogue: { shape: [1, M, N], type: "vec4f" },
    flops: 2 * M * N * K,
  };
}
