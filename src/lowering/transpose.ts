import type { KernelCall, LowerContext, Temp } from "../graph/kernel-call.ts";
import { numel } from "../graph/shape.ts";
import { F32, halfReader, inputPrologue, reading } from "./formats.ts";
import { MAX_GROUPS } from "./grid.ts";
import type { Product } from "./matmul.ts";
import type { Matrix, VectorLoads } from "./matrix.ts";

/** Largest transposed copy, in elements. A larger one needs too much scratch memory for the time it saves. */
const MAX_COPY = 2 ** 24;
/** Transpose A only if C has at least this many columns (B: rows). With fewer, the copy costs clearly more than it saves. */
const MIN_READERS = 256;
const WG = 64;
/** Blocks of 4 x 4 that an invocation transposes. */
const STEPS = 4;

/**
 * The operands to transpose before the product: "", "a", "b" or "ab". Only operands read along k qualify.
 * On software adapters the faster reads save about what the copy costs. It pays because products of all layouts then share one
 * shader, which is compiled once (docs/log.md).
 */
export function transposable({ device }: LowerContext, p: Product, { A_VEC, B_VEC }: VectorLoads): string {
  const { M, N, K, sizes, A, B, complete, packed } = p;
  if (device.kind !== "software" || device.subgroupSize === 0 || !complete || K / 4 / STEPS > MAX_GROUPS) return "";
  const fits = (x: Matrix, C: number): boolean => {
    const elements = matrices(x, sizes) * K * C;
    return (
      C % 4 === 0 && matrices(x, sizes) <= MAX_GROUPS && elements <= Math.min(MAX_COPY, device.maxBindingBytes / 4)
    );
  };
  const a = A_VEC === 1 && N >= MIN_READERS && fits(A, M);
  const b = B_VEC === 1 && M >= MIN_READERS && fits(B, N) && !packed;
  return `${a ? "a" : ""}${b ? "b" : ""}`;
}

/** The operands as the product reads them, after the transposes. */
export interface ProductInputs {
  /** The transposes. */
  readonly calls: KernelCall[];
  /** Transposed copies, bound instead of the operands. */
  readonly copies: { a?: Temp; b?: Temp };
  readonly A: Matrix;
  readonly B: Matrix;
  readonly loads: VectorLoads;
}

/** Transposes the operands named in `operands` ("a", "b" or "ab") and passes the others as is. */
export function transposeOperands(
  cx: LowerContext,
  { M, N, K, sizes, A, B }: Product,
  loads: VectorLoads,
  operands = "",
): ProductInputs {
  const a = operands.includes("a") ? transpose(cx, 0, A, sizes, K, M, A.row) : undefined;
  const b = operands.includes("b") ? transpose(cx, 1, B, sizes, K, N, B.column) : undefined;
  return {
    calls: [a, b].filter((x) => x !== undefined).map((x) => x.call),
    copies: { a: a?.temp, b: b?.temp },
    A: a ? { offset: 0, batch: a.batch, row: 1, column: M } : A,
    B: b ? { offset: 0, batch: b.batch, row: N, column: 1 } : B,
    loads: { A_VEC: a ? 2 : loads.A_VEC, B_VEC: b ? 2 : loads.B_VEC },
  };
}

/** Copies `x`, with stride 1 along k and `stride` along its other dim of size C, to [batch, K, C]. */
function transpose(
  cx: LowerContext,
  source: number,
  x: Matrix,
  sizes: readonly number[],
  K: number,
  C: number,
  stride: number,
) {
  const count = matrices(x, sizes);
  const temp = cx.temp(4 * count * K * C);
  const { buffer } = cx.operand(source);
  const { vector, reads } = buffer.dtype === "f16" ? halfReader("x", true) : F32;
  const call: KernelCall = {
    kernel: "transpose",
    params: { WG, STEPS, BATCHED: Number(count > 1), X: vector },
    reads: reads && { hooks: { x_4: reads.hooks!.x_4 } },
    dims: [K, C, x.offset, stride, sizes[1], sizes[2], ...x.batch],
    bind: [buffer, temp],
    grid: [Math.ceil(C / 4 / WG), Math.ceil(K / 4 / STEPS), count],
    compileMs: 0, // as short as an elementwise kernel
    prologues: [inputPrologue(buffer, "x", 0, reading(true, count * K * C, 4))],
  };
  return { call, temp, batch: [sizes[1] * sizes[2], sizes[2], 1].map((n) => (count > 1 ? n * K * C : 0)) };
}

/** Distinct matrices of an operand: one if it is broadcast over all batches. */
const matrices = (x: Matrix, sizes: readonly number[]): number => (x.batch.some((s) => s !== 0) ? numel(sizes) : 1);
