import type { DeviceInfo } from "../graph/device-info.ts";
import type { BufferRef, KernelCall, Lower, LowerContext } from "../graph/kernel-call.ts";
import { groupsOf, type QuantFormat, type QuantLayout } from "../graph/quantization.ts";
import { inputPrologue, packedReader, reading, UNUSED_1, UNUSED_4 } from "./formats.ts";
import { busyGroups, grid2d, sumParts } from "./grid.ts";
import { type FewRows, product, splitK } from "./matmul.ts";

/** Param FORMAT of matvec_quantized.wgsl. */
const FORMAT: Record<QuantFormat, number> = { int8: 8, int4: 4, nf4: 0 };

/** (x [M, K or N], packed, scales), attrs { format, group, zeroPoint, activations, shape, transposed } -> [M, N or K]. */
export const lowerQuantizedMatmul: Lower = (node, cx) => {
  const { transposed, ...q } = node.attrs as unknown as QuantLayout & { transposed: boolean };
  const M = node.shape[0];
  const [N, K] = q.shape;
  const rounded = q.activations === "int8" ? quantizeRows(cx, q, M) : undefined;
  if (!transposed && M <= 8 && cx.device.subgroupSize > 0) {
    const signature = { M, N, K, format: q.format, activations: q.activations };
    const { lanes, columns } = cx.choose("matvec_quantized", signature, fewRowCandidates(cx.device, M, q.format));
    if (lanes === "k") return [...(rounded ? [rounded.call] : []), matvec(cx, q, M, columns, rounded)];
  }
  if (rounded) return [rounded.call, ...integerProduct(cx, q, M, rounded)];
  const row = Math.ceil(K / q.group) * q.group; // stride between rows of the packed matrix, in elements
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
    complete: true,
    packed: {
      group: q.group,
      reader: (hoisted) => packedReader(q.format, q.group, q.zeroPoint, cx.operand(2).buffer, hoisted),
    },
  });
};

/**
 * Lanes along k (matvec_quantized.wgsl) read whole cache lines of the codes, but unpack them again for each row of x. That is
 * expensive on software adapters; GPUs hide it behind the memory reads. Lanes along n are a tile of matmul.wgsl.
 * More columns per subgroup load each activation less often, but leave fewer subgroups, and each column needs a cache line of
 * its own: with int4, 16 columns stay in the cache at any alignment of the buffers.
 */
function fewRowCandidates(device: DeviceInfo, M: number, format: QuantFormat): FewRows[] {
  const software = device.kind === "software";
  const alongK = (!software ? [8, 16, 4] : format === "int4" && M === 1 ? [16, 32, 8] : [32, 16, 8]).map(
    (columns): FewRows => ({ lanes: "k", columns }),
  );
  const alongN: FewRows = { lanes: "n", columns: 4 };
  const maxRows = !software ? 8 : format === "nf4" ? 1 : 4; // up to which lanes along k win
  return M <= maxRows ? [...alongK, alongN] : [alongN, ...alongK];
}

/** Activations rounded to int8: codes [M, K padded to groups] and scales [M, groups]. */
interface RoundedRows {
  readonly call: KernelCall;
  readonly codes: BufferRef;
  readonly scales: BufferRef;
}

function quantizeRows(cx: LowerContext, q: QuantLayout, M: number): RoundedRows {
  const [K, groups] = [q.shape[1], groupsOf(q)];
  const vec = K % 4 === 0;
  const [codes, scales] = [cx.temp(M * groups * q.group), cx.temp(4 * M * groups)];
  const call: KernelCall = {
    kernel: "quantize_rows",
    params: { WG: 64, VEC: Number(vec), X: vec ? "vec4f" : "f32" },
    dims: [M, K, groups, q.group / 4],
    bind: [cx.operand(0).buffer, codes, scales],
    grid: grid2d(Math.ceil((M * groups) / 64)),
    prologues: [inputPrologue(cx.operand(0).buffer, "x", 0, reading(vec, 2 * M * K, 2))],
  };
  return { call, codes, scales };
}

/** Body of `fn dot4` on adapters without WGSL's dot product of packed bytes. */
const DOT4 = `let at = vec4u(24u, 16u, 8u, 0u);
  return dot(vec4i(vec4u(x) << at) >> vec4u(24u), vec4i(vec4u(y) << at) >> vec4u(24u));`;

/** int8 activations times int8 weights, by matmul_int8.wgsl. */
function integerProduct(cx: LowerContext, q: QuantLayout, M: number, { codes, scales }: RoundedRows): KernelCall[] {
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

/** Body of `fn load_a` for int8 activations: four values of a row, from k on. */
const LOAD_ROUNDED = `let code = vec4i(vec4u(a[row * dims.chunks * 8u + k / 4u]) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u);
  return vec4f(code) * a_scales[row * dims.groups + ((k / 32u) >> dims.shift)];`;

/** A product of few rows by matvec_quantized.wgsl. `ROWS`: columns of the result, that is rows of the weight, per subgroup. */
function matvec(cx: LowerContext, q: QuantLayout, M: number, ROWS: number, rounded?: RoundedRows): KernelCall {
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
      hooks: { load_a: LOAD_ROUNDED, a_1: UNUSED_1, a_4: UNUSED_4 },
      extraBindings: ["var<storage, read> a_scales: array<f32>"],
    },
    dims: [M, N, K, rowTiles, (groups * group) / 32, groups, Math.log2(group / 32)],
    bind: [rounded?.codes ?? a, w, scales, cx.output(), ...(rounded ? [rounded.scales] : [])],
    grid: grid2d(rowTiles * Math.ceil(N / ROWS)),
    prologues: rounded ? [] : [inputPrologue(a, "a", 0, reading(vec, Math.ceil(N / ROWS) * M * K, 8 * TM))],
    epilogue: { shape: [1, M, N], type: "vec4f" },
    flops: 2 * M * N * K,
  };
}
