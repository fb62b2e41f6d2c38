import type { KernelCall, LowerContext, Temp } from "../graph/kernel-call.ts";
import { numel } from "../graph/shape.ts";
import { F32, halves, made, reading } from "./formats.ts";
import { MAX_GROUPS } from "./grid.ts";
import type { Loads, Matrix, Product } from "./matmul.ts";

/** Elements of a turned copy: more would be too much scratch memory for what it gains. */
const LARGEST = 2 ** 24;
/** Columns of C from which on A is turned, and rows of C for B: with fewer the copy costs clearly more than it gains. */
const WORTH = 256;
const WG = 64;
/** Squares of 4 x 4 that a lane turns. */
const STEPS = 4;

/**
 * The operands to turn, "a", "b" or "ab", of those that are read along k. On software adapters reading a copy along rows of A
 * and columns of B gains about what the copy costs, and products of all layouts are one kernel, compiled once (docs/log.md).
 */
export function turnable({ device }: LowerContext, p: Product, { A_VEC, B_VEC }: Loads): string {
  const { M, N, K, sizes, A, B, only, packed } = p;
  if (device.kind !== "software" || device.subgroupSize === 0 || !only || K / 4 / STEPS > MAX_GROUPS) return "";
  const fits = (x: Matrix, C: number): boolean => {
    const elements = copies(x, sizes) * K * C;
    return C % 4 === 0 && copies(x, sizes) <= MAX_GROUPS && elements <= Math.min(LARGEST, device.maxBindingBytes / 4);
  };
  const a = A_VEC === 1 && N >= WORTH && fits(A, M);
  const b = B_VEC === 1 && M >= WORTH && fits(B, N) && !packed;
  return `${a ? "a" : ""}${b ? "b" : ""}`;
}

/** What a product reads instead of operands that are turned. */
export interface Turned {
  readonly calls: KernelCall[];
  readonly copies: { a?: Temp; b?: Temp };
  readonly A: Matrix;
  readonly B: Matrix;
  readonly vec: Loads;
}

export function turn(cx: LowerContext, { M, N, K, sizes, A, B }: Product, vec: Loads, operands = ""): Turned {
  const [a, b] = [operands.includes("a"), operands.includes("b")];
  const along = (x: Matrix, source: number, C: number, stride: number) => copy(cx, source, x, sizes, K, C, stride);
  const [left, right] = [a ? along(A, 0, M, A.row) : undefined, b ? along(B, 1, N, B.column) : undefined];
  return {
    calls: [left, right].filter((x) => x !== undefined).map((x) => x.call),
    copies: { a: left?.temp, b: right?.temp },
    A: left ? { offset: 0, batch: left.batch, row: 1, column: M } : A,
    B: right ? { offset: 0, batch: right.batch, row: N, column: 1 } : B,
    vec: { A_VEC: a ? 2 : vec.A_VEC, B_VEC: b ? 2 : vec.B_VEC },
  };
}

/** Copies `x`, whose stride along C is `stride` and 1 along K, to [batch, K, C]. */
function copy(
  cx: LowerContext,
  source: number,
  x: Matrix,
  sizes: readonly number[],
  K: number,
  C: number,
  stride: number,
) {
  const count = copies(x, sizes);
  const temp = cx.temp(4 * count * K * C);
  const { buffer } = cx.operand(source);
  const { four, reads } = buffer.dtype === "f16" ? halves("x", true) : F32;
  const call: KernelCall = {
    kernel: "transpose",
    params: { WG, STEPS, BATCHED: Number(count > 1), X: four },
    reads: reads && { hooks: { x_4: reads.hooks!.x_4 } },
    dims: [K, C, x.offset, stride, sizes[1], sizes[2], ...x.batch],
    bind: [buffer, temp],
    grid: [Math.ceil(C / 4 / WG), Math.ceil(K / 4 / STEPS), count],
    compileMs: 0, // as short as an elementwise kernel
    prologues: [made(buffer, "x", 0, reading(true, count * K * C, 4))],
  };
  return { call, temp, batch: [sizes[1] * sizes[2], sizes[2], 1].map((n) => (count > 1 ? n * K * C : 0)) };
}

const copies = (x: Matrix, sizes: readonly number[]): number => (x.batch.some((s) => s !== 0) ? numel(sizes) : 1);
