import type { DType } from "./dtype.ts";
import type { IndexVector, ViewIndex } from "./index-map.ts";
import type { Attrs, Node } from "./node.ts";
import type { Shape } from "./shape.ts";

/** A value of the f64 reference interpreter. Integers and booleans are exact in it. */
export interface RefArray {
  readonly data: Float64Array;
  readonly shape: Shape;
  readonly dtype: DType;
}

/**
 * How the compiler treats an op:
 * - `leaf`        a value from outside the graph
 * - `assign`      the value that a leaf gets in place at the next flush (identity)
 * - `elementwise` an expression per element: `wgsl`, or `js` in the reference. Sources have exactly the node's shape
 * - `view`        an index map (`viewIndex`); never copies by itself
 * - `gather`      reads its first source at positions that its second source holds (`positionIndex`)
 * - `reduce`      combines the elements along attrs.dims (`reducer`); the dims stay with size 1
 * - `kernel`      lowered to template kernels by the lowering table, or composed of other ops by its `fallback`
 * - `pick`        one output of an op with several outputs
 */
export type OpKind = "leaf" | "assign" | "elementwise" | "view" | "gather" | "reduce" | "kernel" | "pick";

/** How a reduction combines values. All strings are WGSL expressions that work on scalars and on vec4. */
export interface Reducer {
  /** Start value: the identity of `step`. */
  init(dtype: DType): number;
  /** Combines the accumulator with a value, or two partial results. Associative. */
  step(accumulator: string, value: string, type: string): string;
  /** WGSL functions that `step` calls. */
  helpers?(type: string): string;
  /** `step` keeps NaN, and this faster form may lose it. Of floats, the kernel then looks for NaN in the bits of each element. */
  quick?(accumulator: string, value: string): string;
  /** Applied to the combined result. */
  finish?(total: string): string;
  /** The result is the position of the best value by this comparison: the first one among equals. NaN is better than all. */
  position?: ">" | "<";
  /** `step` is an addition: sums of a few thousand values may be split exactly, and rows may use the kernel sum_parts. */
  additive?: boolean;
}

/** Layout of an op that packs its sources into one f32 buffer. Offsets and total count elements. */
export interface ArenaLayout {
  readonly offsets: readonly number[];
  readonly total: number;
}

/** Part of a dim. */
export interface Stretch {
  readonly start: number;
  readonly size: number;
}

/** What `split` may ask about operands that are larger than one binding. */
export interface SplitContext {
  /** Most bytes of one binding. */
  readonly limit: number;
  /** Whether an operand or an output is larger than `limit`. */
  readonly large: boolean;
  /** Bytes of a contiguous tensor. */
  bytesOf(spec: { readonly shape: Shape; readonly dtype: DType }): number;
  /** Bytes of a binding of source `i`: its whole buffer, or the range that a strided view reads. */
  extent(i: number): number;
  /** If source `i` exceeds `limit`: the dim along which it extends most, and the least number of parts. */
  widest(i: number): { readonly dim: number; readonly parts: number } | undefined;
  /** Of a reduction whose reads exceed `limit`: the dim of the source to cut, and the least number of parts. */
  cut(): { readonly dim: number; readonly parts: number } | undefined;
  /** Cuts `size` into at least `parts` stretches, multiples of `unit` where they are that long. */
  stretches(size: number, parts: number, unit?: number): Stretch[];
}

/** The place in a user's program that defined an op or a kernel. */
export interface Origin {
  /** Stack line of the definition: file, line and column. */
  readonly place: string;
  /** The WGSL file that was given there, if any. */
  readonly wgsl?: string;
}

/** The parts of a node that `split` reads. */
export interface SplitNode<A = any> {
  readonly op: Op;
  readonly attrs: A;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly outputs?: readonly { readonly shape: Shape; readonly dtype: DType }[];
}

/**
 * Everything the library knows about an operation, in one place. `T` is the tensor type of the layer above: graph and
 * compiler work on nodes and never look inside it.
 */
export interface Op<A = any, T = any> {
  readonly name: string;
  readonly kind: OpKind;
  /** Where a user's op was defined, for errors about its shader. */
  readonly origin?: Origin;
  /** Gradient: one entry per source, `null` where there is none. With several outputs `g` and `y` are arrays. */
  readonly vjp?: (g: any, y: any, x: T[], attrs: A) => (T | null)[];
  /** f64 value, for every op without `fallback`. Several outputs return an array. */
  readonly reference?: (x: RefArray[], attrs: A, node: Node) => RefArray | RefArray[];
  /** Text of attrs for the graph key, where JSON is not enough (functions, infinities, large data). */
  readonly keyOf?: (attrs: A) => string;

  // elementwise
  /** WGSL expression. `type` is the type of the result: "f32", "vec4f", "f16", "vec4<f16>", "i32", … */
  readonly wgsl?: (x: string[], attrs: A, type: string) => string;
  /** `type` is the type of the operands, not of the result: for a boolean result, which needs constants of theirs. */
  readonly operandTyped?: boolean;
  /** WGSL functions that the expression calls, for `type`. Each text of a list is emitted once in a shader. */
  readonly helpers?: (type: string) => string | readonly string[];
  /** The expression takes the element's linear index (u32 or vec4u) as its last argument. */
  readonly indexed?: boolean;
  /** Rough cost in flops (default 1): decides between recomputing and storing. From 8 on, f16 is computed in f32. */
  readonly cost?: number;
  /** a ∘ b = b ∘ a: the compiler may swap the sources. */
  readonly commutative?: boolean;
  /** Every element has this value. The op has no sources. */
  readonly constant?: (attrs: A) => number;
  /**
   * Drivers rearrange this op and others with this mark where they share an operand, as if numbers were real: x - x is not 0
   * for NaN, and (x + y) - y is not x. The compiler hides such an operand from them.
   */
  readonly algebra?: boolean;
  /** The compiler hides the result from drivers, which fold it into the next op: exp(log(x)) is not x below 0. */
  readonly opaque?: (attrs: A) => boolean;

  // view
  /** Where the element at `index` of the node lies in its source. The one rule for GPU and reference. */
  readonly viewIndex?: (index: IndexVector, attrs: A, shape: { readonly from: Shape; readonly to: Shape }) => ViewIndex;
  /** The elements keep their row-major order: source and result are the same memory. */
  readonly keepsOrder?: boolean;
  /** Reads source elements more than once (expand, overlapping windows). */
  readonly repeats?: boolean;

  // gather
  /** Index at which the positions (second source) are read for the element at `index` of the node. */
  readonly positionIndex?: (index: IndexVector, attrs: A) => IndexVector;

  // reduce
  readonly reducer?: Reducer;

  // kernel
  /** The same value from ordinary ops: definition, oracle and gradient of a fused op. */
  readonly fallback?: (x: T[], attrs: A) => T | T[];
  /** Sources that may be strided views of a buffer rather than contiguous. */
  readonly strided?: readonly number[] | ((node: Node) => readonly number[]);
  /** Sources that the lowering reads as halves where they are f16; other sources are widened to f32 first. */
  readonly halves?: readonly number[];
  /** For each output the source whose buffer it overwrites; -1 = a new buffer. */
  readonly inPlace?: readonly number[];
  /** A matrix product: (A B)ᵀ may be computed as Bᵀ Aᵀ. */
  readonly product?: boolean;
  /** The sources are written into one buffer at these offsets. The op itself runs no kernel. */
  readonly arena?: (attrs: A) => ArenaLayout;

  /**
   * gather, reduce, kernel: the node as ops on smaller parts, for tensors larger than a binding. Undefined: it fits, or cannot
   * be split.
   */
  readonly split?: (node: SplitNode<A>, x: T[], cx: SplitContext) => T[] | undefined;
}

const registry = new Map<string, Op>();

/** Registers an op by its name. @throws if the name is taken. */
export function registerOp<O extends Op>(op: O): O {
  if (registry.has(op.name)) throw new Error(`op ${op.name} is defined twice`);
  registry.set(op.name, op);
  return op;
}

/** All ops by name. */
export const allOps = (): ReadonlyMap<string, Op> => registry;

/** Text of a node's attributes, as in its key. */
export const attrsText = ({ op, attrs }: { op: Op; attrs: Attrs }): string =>
  op.keyOf?.(attrs) ?? JSON.stringify(attrs);
