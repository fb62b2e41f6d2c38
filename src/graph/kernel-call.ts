import type { Specialization } from "../compile/codegen/template.ts";
import type { DeviceInfo } from "../runtime/device.ts";
import type { DType } from "./dtype.ts";
import type { Node } from "./node.ts";

/** A scratch buffer between the kernels of one op. */
export interface Temp {
  readonly temp: true;
  readonly bytes: number;
}

/** Something a kernel binds: a node's buffer (its own output included, or a window of one), an output of a node, or scratch. */
export type BufferRef = Node | { readonly node: Node; readonly output: number } | Temp;

/** A source of a kernel as a strided view of a contiguous buffer. Offsets and strides count elements. */
export interface Operand {
  readonly buffer: Node;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly strides: readonly number[];
}

/** Shape of the index space that a template hands to a hook, and the type of its values. */
export interface HookSpace {
  /** Batch, row and column, in `i`; or one dim: an element of a source, `at`. */
  readonly shape: readonly [number, number, number] | readonly [number];
  readonly type: "f32" | "vec4f";
}

/** A source that a template reads through hooks alone: what makes it may be fused. */
export interface Prologue extends HookSpace {
  /** Its place in `bind`. */
  readonly source: number;
  /** The hook that reads a value for the first time and may store it for others; a template without one stores nothing. */
  readonly first?: string;
  /** The hook of all (other) readings. */
  readonly again: string;
  /** How often a value is read, on average. */
  readonly readings: number;
  /** How often the hook stands in the text once drivers have unrolled its loops. */
  readonly copies: number;
}

/** A template that writes whole vec4f by `fn store`: the number of one, and when it is in the tensor, in the hook's arguments. */
export interface KernelStore {
  readonly at: string;
  readonly inside?: string;
}

/** One dispatch of a template in kernels/. */
export interface KernelCall {
  /** File name without `.wgsl`. */
  readonly kernel: string;
  /** Values for `const NAME: type = …; // param` and `alias NAME = …; // param`. */
  readonly params?: Readonly<Record<string, number | string>>;
  /** Hooks that the lowering fills (operands that are not stored as the file says), and what these need. */
  readonly reads?: Pick<Specialization, "hooks" | "extraBindings" | "directives" | "helpers">;
  /** Words of the uniform struct at @binding(0), in order (floats through `floatBits`). */
  readonly dims: readonly number[];
  /** Buffers of @binding(1), @binding(2), … in order; extra bindings come last. */
  readonly bind: readonly BufferRef[];
  /** Workgroups; each at most 65,535. */
  readonly grid: readonly [number, number, number];
  readonly prologues?: readonly Prologue[];
  /** The template hands its results to `fn epilogue`: what follows may be fused. With `store` it may end in halves. */
  readonly epilogue?: HookSpace & { readonly store?: KernelStore };
  /** Figures for reports. */
  readonly flops?: number;
}

/** What a choice depends on: sizes (numbers; close ones share an answer) and words, such as the layouts of operands. */
export type Signature = Readonly<Record<string, number | string>>;

/** One way to lower: plain data, compared by its JSON. */
export type Candidate = Readonly<Record<string, number | string | boolean>>;

/** What a lowering may ask. */
export interface LowerContext {
  readonly device: DeviceInfo;
  /** Source `i`: strided when the op declared it in `strided` and an affine view allows, else contiguous. */
  operand(i: number): Operand;
  /** Output `i` of the node being lowered. */
  output(i?: number): BufferRef;
  temp(bytes: number): Temp;
  /** Elements `first` to `last` of a buffer, for kernels that take large ones in parts; `first` is a multiple of 128. */
  window(ref: BufferRef, dtype: DType, first: number, last: number): BufferRef;
  /**
   * One of at most 12 candidates that this adapter can run: the one that tuning measured as best for this template and
   * signature, else the first, which is the heuristic's choice. All must compute the same function.
   */
  choose<C extends Candidate>(template: string, signature: Signature, candidates: readonly C[]): C;
}

/** Returns the dispatches in order, or undefined when these shapes need the fallback. */
export type Lower = (node: Node, cx: LowerContext) => KernelCall[] | undefined;
