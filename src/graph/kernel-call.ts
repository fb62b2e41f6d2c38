import type { DeviceInfo } from "./device-info.ts";
import type { DType } from "./dtype.ts";
import type { Node } from "./node.ts";

/** Changes to a kernel template. Template files are valid WGSL; marked constants, aliases and hook bodies may be replaced. */
export interface Specialization {
  /** Values for `const NAME: type = …; // param` and `alias NAME = …; // param`. */
  readonly params?: Readonly<Record<string, number | string | boolean>>;
  /** Statements that become the body of `fn name(…) … { // hook`. */
  readonly hooks?: Readonly<Record<string, string>>;
  /** A buffer that hook bodies write, declared read-only in the file. */
  readonly writes?: string;
  /** A buffer that hook bodies fill with f16, four per vec2u. */
  readonly halves?: string;
  /** Declarations (`var<storage, read> bias: array<f32>`) that take the next free binding numbers, in order. */
  readonly extraBindings?: readonly string[];
  /** `enable` directives that hook bodies need. */
  readonly directives?: string;
  /** Module-scope WGSL (structs, functions) that hook bodies use. */
  readonly helpers?: string;
}

/** A scratch buffer between the kernels of one op. */
export interface Temp {
  readonly temp: true;
  readonly bytes: number;
}

/** What a kernel binds: the buffer of a node (or a window of it), one output of a node, or scratch. */
export type BufferRef = Node | { readonly node: Node; readonly output: number } | Temp;

/** A source of a kernel as a strided view of a contiguous buffer. Offsets and strides count elements. */
export interface Operand {
  readonly buffer: Node;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly strides: readonly number[];
}

/** The index space that a template passes to a hook, and the type of the hook's values. */
export interface HookSpace {
  /** Batch, row and column, in `i`; or one dim: the position of an element, `at`. */
  readonly shape: readonly [number, number, number] | readonly [number];
  readonly type: "f32" | "vec4f";
}

/** A source that a template reads through hooks only, so that elementwise work on it may be computed there. */
export interface Prologue extends HookSpace {
  /** Position in `bind`. */
  readonly source: number;
  /** Hook of the first read, which may store the value. Templates without it store nothing. */
  readonly firstHook?: string;
  /** Hook of all reads, or of all but the first. */
  readonly hook: string;
  /** Reads per value, on average. */
  readonly readings: number;
  /** How often the hook occurs in the shader after drivers unroll its loops. */
  readonly copies: number;
}

/** How a template stores whole vec4f through `fn store`: WGSL of the vector's index, and of the condition that it is in range. */
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
  /** Hooks that the lowering fills (to read operands of other formats), and the declarations that these need. */
  readonly reads?: Pick<Specialization, "hooks" | "extraBindings" | "directives" | "helpers">;
  /** Words of the uniform struct at @binding(0), in order. Floats go through `floatBits`. */
  readonly dims: readonly number[];
  /** Buffers of @binding(1), @binding(2), … in order. Extra bindings come last. */
  readonly bind: readonly BufferRef[];
  /** Workgroups; at most 65,535 in each dim. */
  readonly grid: readonly [number, number, number];
  readonly prologues?: readonly Prologue[];
  /** The template passes its results to `fn epilogue`, which may be fused work. With `store` the result may be f16. */
  readonly epilogue?: HookSpace & { readonly store?: KernelStore };
  /** CPU ms by which a software driver compiles the fused template longer than an elementwise kernel. Default 70. */
  readonly compileMs?: number;
  /** Arithmetic of the dispatch, for reports. */
  readonly flops?: number;
}

/** What the choice of a variant depends on: sizes (close sizes share an answer) and words, such as operand layouts. */
export type Signature = Readonly<Record<string, number | string>>;

/** One variant of a lowering: plain data, compared as JSON. */
export type Candidate = Readonly<Record<string, number | string | boolean>>;

/** Names of the elementwise ops that are fused into a kernel: into its sources, and after its result. */
export interface FusedNames {
  readonly prologue?: string;
  readonly epilogue?: string;
}

/** Chooses among the variants of a kernel. */
export interface VariantChooser {
  /** Nothing was measured: every choice is the first candidate. */
  readonly empty: boolean;
  /** The candidate that was measured as fastest, else the first. */
  choose<C extends Candidate>(
    node: Node,
    template: string,
    signature: Signature,
    candidates: readonly C[],
    fused?: FusedNames,
  ): C;
  /** As `choose`. If this case has no answer, records it as an open question to measure. */
  ask<C extends Candidate>(
    node: Node,
    template: string,
    signature: Signature,
    candidates: readonly C[],
    fused: FusedNames,
  ): C;
}

/** The device that the compiler compiles for, and its tuner. */
export interface CompileTarget {
  readonly info: DeviceInfo;
  readonly tuner: VariantChooser;
}

/** The questions that a lowering may ask. */
export interface LowerContext {
  readonly device: DeviceInfo;
  /** Source `i`: strided if the op lists it in `strided` and an affine view exists, else contiguous. */
  operand(i: number): Operand;
  /** Output `i` of the node. */
  output(i?: number): BufferRef;
  temp(bytes: number): Temp;
  /** Elements `first` to `last` of a buffer, for kernels that take large buffers in parts. `first` is a multiple of 128. */
  window(ref: BufferRef, dtype: DType, first: number, last: number): BufferRef;
  /**
   * One of at most 12 candidates that this adapter can run: the one measured as fastest for this template and signature,
   * else the first, which is the heuristic's choice. All candidates must compute the same function.
   */
  choose<C extends Candidate>(template: string, signature: Signature, candidates: readonly C[]): C;
}

/** Returns the dispatches in order, or undefined where the op needs its fallback. */
export type Lower = (node: Node, cx: LowerContext) => KernelCall[] | undefined;
