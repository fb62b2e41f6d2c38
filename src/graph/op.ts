import type { Tensor } from "../tensor/tensor.ts";
import type { DType } from "./dtype.ts";
import type { Lower } from "./kernel-call.ts";
import type { Attrs, Node, OutputSpec } from "./node.ts";

/** A value of the f64 reference interpreter. Integers and booleans are exact in it. */
export interface RefArray {
  readonly data: Float64Array;
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/**
 * How the compiler treats an op:
 * - `leaf`        a value given from outside (`op.name` "leaf"), or "assign" (identity)
 * - `elementwise` one row: `wgsl` and `js`; fuses freely; sources have exactly the node's shape (expand first)
 * - `view`        an index map: reshape permute expand slice flip pad unfold; never copies by itself
 * - `gather`      reads its first source at computed indices; fuses into elementwise kernels
 * - `reduce`      sum max min prod argmax argmin over attrs.dims (always with kept dims)
 * - `kernel`      lowered to one or more template kernels, or expanded by its `fallback`
 * - `pick`        one output of a kernel with several
 */
export type OpKind = "leaf" | "elementwise" | "view" | "gather" | "reduce" | "kernel" | "pick";

/** Everything the library knows about an operation, in one place. */
export interface Op<A = any> {
  readonly name: string;
  readonly kind: OpKind;
  /** Gradient: one entry per source, `null` where there is none. For several outputs `g` and `y` are arrays. */
  readonly vjp?: (g: any, y: any, x: Tensor[], attrs: A) => (Tensor | null)[];
  /** f64 value, for every op that has no `fallback`. Several outputs return an array. */
  readonly reference?: (x: RefArray[], attrs: A, node: Node) => RefArray | RefArray[];
  /** Elementwise: a WGSL expression. `type` is "f32", "vec4f", "f16", "vec4<f16>", "i32", … of the result; see `Row`. */
  readonly wgsl?: (x: string[], attrs: A, type: string) => string;
  /** Elementwise: WGSL functions the expression calls, for `type`; emitted once per type. */
  readonly helpers?: (type: string) => string;
  /** Elementwise: the expression also takes the element's linear index (u32 or vec4u) as its last argument. */
  readonly indexed?: boolean;
  /** Elementwise: rough cost in flops (default 1), decides between recomputing and storing; from 8 on f16 is computed in f32. */
  readonly cost?: number;
  /** Kernel: the same value from ordinary ops. Definition, oracle and gradient of a fused op. */
  readonly fallback?: (x: Tensor[], attrs: A) => Tensor | Tensor[];
  /** Kernel: template calls that compute it; undefined = use the fallback for these shapes. */
  readonly lower?: Lower;
  /** Kernel: sources that may be strided views of a buffer rather than contiguous ones. */
  readonly strided?: readonly number[] | ((node: Node) => readonly number[]);
  /** Kernel: sources that `lower` reads as halves where they are f16; others are widened to f32 before. */
  readonly halves?: readonly number[];
  /** Kernel: for each output the index of the source whose buffer it overwrites (-1 = a new buffer). */
  readonly inPlace?: readonly number[];
  /** Key text of attrs when JSON does not do (functions, large data). */
  readonly keyOf?: (attrs: A) => string;
}

export type InferResult = OutputSpec | readonly OutputSpec[];

/** Names every op by its definition; a second definition of a name is an error. */
const registry = new Map<string, Op>();

export function defineOp<A extends Attrs = Attrs>(op: Op<A>): Op<A> {
  if (registry.has(op.name)) throw new Error(`op ${op.name} is defined twice`);
  registry.set(op.name, op);
  return op;
}

export const allOps = (): ReadonlyMap<string, Op> => registry;
