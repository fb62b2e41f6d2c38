import { addKernel, kernelSource } from "../../kernels/index.ts";
import { bindings, declarations } from "../compile/codegen/template.ts";
import type { DeviceInfo } from "../graph/device-info.ts";
import type { DType } from "../graph/dtype.ts";
import type { BufferRef, Candidate, KernelCall, Lower, LowerContext, Signature } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { allOps, type Origin, registerOp } from "../graph/op.ts";
import { numel, type Shape, show } from "../graph/shape.ts";
import { grid2d, MAX_GROUPS } from "../lowering/grid.ts";
import { restoreLowering, setLowering } from "../lowering/index.ts";
import { apply, applyMany, type Tensor } from "../tensor/tensor.ts";
import {
  type Attributes,
  checkedGradients,
  checkName,
  checkOperands,
  checkOptions,
  definitionError,
  type Gradients,
  originHere,
  splitArguments,
} from "./definition.ts";

/** A buffer that a dispatch binds. */
export interface KernelBuffer {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Elements of the buffer before the first one, and between neighbours of each dim. Contiguous inputs begin at 0. */
  readonly offset: number;
  readonly strides: readonly number[];
}

/** What `dispatch` knows when it plans the kernels of a call. */
export interface KernelContext<A> {
  readonly inputs: readonly KernelBuffer[];
  readonly outputs: readonly KernelBuffer[];
  readonly attributes: A;
  /** The adapter: its kind, subgroup size, limits. */
  readonly device: DeviceInfo;
  /** A scratch buffer for several dispatches, of at least so many bytes. */
  scratch(bytes: number): KernelBuffer;
  /**
   * One of at most 12 candidates: the one that tuning measured as fastest for these sizes, else the first. All candidates
   * must compute the same function.
   */
  choose<C extends Candidate>(sizes: Signature, candidates: readonly C[]): C;
}

/** One dispatch of a WGSL file. */
export interface Dispatch {
  /** Which file, if `wgsl` has several. */
  kernel?: string;
  /** Values for `const NAME: type = …; // param` and `alias NAME = …; // param`. */
  parameters?: Readonly<Record<string, number | string>>;
  /** Words of the uniform struct at @binding(0), in order. Floats go through `f32Bits`. */
  uniforms?: readonly number[];
  /** Buffers at @binding(1), @binding(2), … Default: inputs, then outputs. */
  buffers?: readonly KernelBuffer[];
  /** Workgroups in x, y, z, each at most 65,535; or their number, which is spread over x and y. */
  workgroups: number | readonly [number, number, number];
  /**
   * Hooks `fn NAME(at: u32) -> T { // hook` through which alone the file reads an input: elementwise work on it may be
   * computed there. `reads`: how often a value is read on average (default 1).
   */
  prologues?: readonly {
    readonly input: number;
    readonly hook: string;
    readonly type?: "f32" | "vec4f";
    readonly reads?: number;
  }[];
  /**
   * The file passes every result through `fn epilogue(value: T, i: vec3u) -> T { // hook` before it stores it, with
   * i = batch, row, column: elementwise work on the result may be computed there. Default space: [1, 1, elements].
   */
  epilogue?: { readonly type: "f32" | "vec4f"; readonly space?: readonly [number, number, number] };
  /** Arithmetic of the dispatch, for reports. */
  flops?: number;
}

type PlanDispatches<A> = (cx: KernelContext<A>) => Dispatch | readonly Dispatch[] | undefined;

export interface KernelDefinition<A extends Attributes, Y extends Tensor | Tensor[]> {
  /** A name that no op has yet: letters, digits, _. */
  name: string;
  /** The text of a WGSL file, or several by name. */
  wgsl: string | Readonly<Record<string, string>>;
  /** Number of tensor inputs; default 1. f16 inputs reach the kernel as f32. */
  inputs?: number;
  /** Inputs that may be strided views, whose offset and strides `dispatch` then reads. Others are contiguous. */
  strided?: readonly number[];
  /** Shape and dtype of the result, or of several. Default: those of the first input. */
  output?: (
    x: readonly { readonly shape: Shape; readonly dtype: DType }[],
    attributes: A,
  ) => OutputShape | readonly OutputShape[];
  /** The kernels of a call. Undefined: this call runs as its fallback. */
  dispatch: PlanDispatches<A>;
  /** The same value in tensor ops: the definition. Oracle, reference backend, and gradient unless `gradient` is given. */
  fallback: (x: Tensor[], attributes: A) => Y;
  /** Gradients of the inputs, in tensor ops. Default: those of `fallback`. */
  gradient?: (g: Y, y: Y, x: Tensor[], attributes: A) => Gradients;
}

interface OutputShape {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** A defined kernel op: tensors, then its attributes if it has some. */
export type KernelOp<A extends Attributes, Y> = (...args: [...Tensor[], A] | Tensor[]) => Y;

/**
 * Defines an op by a WGSL file of your own. Elementwise work before and after it is fused into its hooks; plans, tuning,
 * tracing and the f64 oracle treat it as a built-in op. See docs/custom.md for a kernel with its parts explained.
 * @throws if the name is taken, an option is wrong, or the file lacks bindings in order, a `main`, or hooks in a known form.
 */
export function defineKernel<A extends Attributes = Attributes, Y extends Tensor | Tensor[] = Tensor>(
  definition: KernelDefinition<A, Y>,
): KernelOp<A, Y> {
  const origin = originHere(typeof definition.wgsl === "string" ? definition.wgsl : undefined);
  const { name, wgsl, inputs = 1, strided = [], output, dispatch, fallback, gradient } = definition;
  checkName(name, origin);
  checkOptions(name, origin, definition, {
    name: "string",
    wgsl: "string object",
    inputs: "undefined number",
    strided: "undefined array",
    output: "undefined function",
    dispatch: "function",
    fallback: "function",
    gradient: "undefined function",
  });
  const files = addFiles(name, wgsl, origin);
  const op = registerOp({
    name,
    kind: "kernel" as const,
    origin,
    strided,
    fallback: fallback as (x: Tensor[], attributes: A) => Tensor | Tensor[],
    vjp:
      gradient &&
      ((g: Y, y: Y, x: Tensor[], attributes: A) => checkedGradients(name, origin, gradient(g, y, x, attributes), x)),
  });
  setLowering(name, lowerBy(name, files, dispatch, origin));
  return (...args) => {
    const { operands, attributes } = splitArguments<A>(args);
    checkOperands(name, origin, operands, inputs, false);
    const x = operands as Tensor[];
    const specs = output?.(x, attributes) ?? { shape: x[0].shape, dtype: x[0].dtype };
    return (
      Array.isArray(specs)
        ? applyMany(op, x, attributes, specs)
        : apply(op, x, attributes, (specs as OutputShape).shape, (specs as OutputShape).dtype)
    ) as Y;
  };
}

export interface LoweringDefinition<A extends Attributes> {
  /** The op to compute by other kernels, such as "softmax". */
  op: string;
  /** The text of a WGSL file, or several by name. */
  wgsl: string | Readonly<Record<string, string>>;
  /** The kernels of a call. Undefined: the call runs as it did before. */
  dispatch: PlanDispatches<A>;
}

/**
 * Computes an existing op by kernels of your own, where `dispatch` returns some. Everything else about the op stays: shapes,
 * gradient, reference. Returns a function that takes the lowering away again.
 * @throws if there is no op of this name, or it is no kernel op (elementwise ops, views and reductions are generated).
 */
export function defineLowering<A extends Attributes = Attributes>(definition: LoweringDefinition<A>): () => void {
  const origin = originHere(typeof definition.wgsl === "string" ? definition.wgsl : undefined);
  const { op: name, wgsl, dispatch } = definition;
  checkOptions(`lowering of ${name}`, origin, definition, {
    op: "string",
    wgsl: "string object",
    dispatch: "function",
  });
  const op = allOps().get(name);
  if (op?.kind !== "kernel") {
    const kernels = [...allOps().values()].filter((o) => o.kind === "kernel").map((o) => o.name);
    throw definitionError(
      `lowering of ${name}`,
      origin,
      `${op ? "the op is generated, not lowered" : "there is no such op"}; ops with kernels: ${kernels.sort().join(", ")}`,
    );
  }
  const files = addFiles(`${name}_${++lowerings}`, wgsl, origin);
  const own = lowerBy(name, files, dispatch, origin);
  const before = setLowering(name, (node, cx) => own(node, cx) ?? before?.(node, cx));
  return () => restoreLowering(name, before);
}

let lowerings = 0;

/** Registers WGSL files under names of their own; returns these by the user's names ("" = the only one). */
function addFiles(name: string, wgsl: string | Readonly<Record<string, string>>, origin: Origin): Map<string, string> {
  const files = typeof wgsl === "string" ? { "": wgsl } : wgsl;
  return new Map(
    Object.entries(files).map(([file, text]) => {
      const own = file ? `${name}.${file}` : name;
      checkFile(own, text, origin);
      addKernel(own, text, origin.place);
      return [file, own];
    }),
  );
}

/** The forms of hooks: reads of an input, and the epilogue. `V` stands for f32 or vec4f, also through an alias. */
const READ_HOOK = /^fn \w+\(at: u32(?:, i: vec3u)?\) -> \w+ \{ \/\/ hook/;
const EPILOGUE_HOOK = /^fn epilogue\(value: (\w+), i: vec3u\) -> \1 \{ \/\/ hook/;

function checkFile(name: string, text: string, origin: Origin): void {
  const fail = (problem: string): never => {
    throw definitionError(name, origin, problem);
  };
  if (typeof text !== "string" || !/\bfn main\s*\(/.test(text)) fail("the WGSL has no entry point `fn main`");
  let found: ReturnType<typeof bindings> = [];
  try {
    found = bindings(text);
  } catch (error) {
    fail((error as Error).message);
  }
  if (found[0]?.kind !== "uniform") fail("the WGSL must have `@group(0) @binding(0) var<uniform>`, for its sizes");
  if (found.slice(1).some((b) => b.kind === "uniform")) fail("the WGSL has more than one uniform");
  text.split("\n").forEach((line, i) => {
    if (!/\/\/ hook\b/.test(line) || READ_HOOK.test(line) || EPILOGUE_HOOK.test(line)) return;
    fail(
      `line ${i + 1} of the WGSL is no hook in a known form: \`fn NAME(at: u32) -> T { // hook\`, \`fn NAME(at: u32, i: vec3u) -> T { // hook\` or \`fn epilogue(value: T, i: vec3u) -> T { // hook\`, from the first column on\n    ${line.trim()}`,
    );
  });
}

/** The lowering that a user's `dispatch` describes. */
function lowerBy<A extends Attributes>(
  name: string,
  files: ReadonlyMap<string, string>,
  dispatch: PlanDispatches<A>,
  origin: Origin,
): Lower {
  return (node, cx) => {
    const refs = new Map<KernelBuffer, BufferRef>();
    const context = contextOf<A>(name, node, cx, refs);
    const planned = dispatch(context);
    if (!planned) return undefined;
    const fail = (problem: string): never => {
      throw definitionError(name, origin, problem);
    };
    const list = (Array.isArray(planned) ? planned : [planned]) as Dispatch[];
    return list.map((d): KernelCall => {
      const kernel =
        files.get(d.kernel ?? "") ??
        fail(`dispatch names the kernel ${d.kernel}, wgsl has ${[...files.keys()].join(", ")}`);
      const buffers = d.buffers ?? [...context.inputs, ...context.outputs];
      const bind = buffers.map(
        (b) => refs.get(b) ?? fail("buffers may hold inputs, outputs and scratch of this call only"),
      );
      checkBindings(kernel, bind, node, fail);
      checkHooks(kernel, d, fail);
      return {
        kernel,
        params: d.parameters,
        dims: d.uniforms ?? [0],
        bind,
        grid: gridOf(d.workgroups, fail),
        flops: d.flops,
        prologues: d.prologues?.map(({ input, hook, type = "f32", reads = 1 }) => ({
          source: buffers.indexOf(context.inputs[input]),
          shape: [numel(node.src[input].shape)] as const,
          type,
          hook,
          readings: reads,
          copies: 1,
        })),
        epilogue: d.epilogue && { type: d.epilogue.type, shape: d.epilogue.space ?? [1, 1, numel(node.shape)] },
      };
    });
  };
}

function contextOf<A>(
  name: string,
  node: Node,
  cx: LowerContext,
  refs: Map<KernelBuffer, BufferRef>,
): KernelContext<A> {
  const buffer = (
    ref: BufferRef,
    shape: Shape,
    dtype: DType,
    offset = 0,
    strides: readonly number[] = stridesOf(shape),
  ): KernelBuffer => {
    const made = { shape, dtype, offset, strides };
    refs.set(made, ref);
    return made;
  };
  return {
    inputs: node.src.map((s, i) => {
      const { buffer: own, offset, strides } = cx.operand(i);
      return buffer(own, s.shape, s.dtype, offset, strides);
    }),
    outputs: (node.outputs ?? [node]).map(({ shape, dtype }, i) => buffer(cx.output(i), shape, dtype)),
    attributes: node.attrs as A,
    device: cx.device,
    scratch: (bytes) => buffer(cx.temp(bytes), [Math.ceil(bytes / 4)], "u32"),
    choose: (sizes, candidates) => cx.choose(name, sizes, candidates),
  };
}

function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  shape.reduceRight((stride, n, d) => ((strides[d] = stride), stride * n), 1);
  return strides;
}

/** Throws unless the file's storage bindings are those of the call: as many, and writable where an output is bound. */
function checkBindings(kernel: string, bind: readonly BufferRef[], node: Node, fail: (problem: string) => never): void {
  const storage = bindings(kernelSource(kernel)).slice(1);
  if (storage.length !== bind.length)
    fail(
      `the WGSL binds ${storage.length} storage buffers (${storage.map((b) => b.name).join(", ")}), the call ${bind.length}: inputs ${node.src.map((s) => show(s.shape)).join(", ")}, outputs ${(node.outputs ?? [node]).map((o) => show(o.shape)).join(", ")}`,
    );
  storage.forEach(({ name, kind }, i) => {
    const ref = bind[i];
    const output = ref === node || ("output" in ref && ref.node === node);
    if (output && kind !== "read_write")
      fail(`${name} holds an output, so the WGSL must declare it var<storage, read_write>`);
    if ("op" in ref && !output && kind === "read_write")
      fail(`${name} holds an input, so the WGSL must declare it var<storage, read>`);
  });
}

/** Throws unless the file has the hooks that a dispatch names, and parameters of these names. */
function checkHooks(kernel: string, d: Dispatch, fail: (problem: string) => never): void {
  const { hooks, params } = declarations(kernelSource(kernel));
  for (const hook of [...(d.prologues ?? []).map((p) => p.hook), ...(d.epilogue ? ["epilogue"] : [])])
    if (!hooks.has(hook)) fail(`the WGSL has no hook ${hook}; its hooks: ${[...hooks].join(", ") || "none"}`);
  for (const parameter of Object.keys(d.parameters ?? {}))
    if (!params.has(parameter))
      fail(`the WGSL has no parameter ${parameter}; its parameters: ${[...params.keys()].join(", ") || "none"}`);
}

function gridOf(
  workgroups: Dispatch["workgroups"],
  fail: (problem: string) => never,
): readonly [number, number, number] {
  const grid = typeof workgroups === "number" ? grid2d(Math.ceil(workgroups)) : workgroups;
  if (!Array.isArray(grid) || grid.length !== 3 || !grid.every((n) => Number.isInteger(n) && n >= 0 && n <= MAX_GROUPS))
    fail(`workgroups must be a number or [x, y, z] of at most ${MAX_GROUPS} each, got ${JSON.stringify(workgroups)}`);
  return grid as readonly [number, number, number];
}
