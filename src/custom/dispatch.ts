import type { DeviceInfo } from "../graph/device-info.ts";
import type { DType } from "../graph/dtype.ts";
import type {
  BufferRef,
  Candidate,
  HookSpace,
  KernelCall,
  Lower,
  LowerContext,
  Prologue,
  Signature,
} from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import type { Origin } from "../graph/op.ts";
import { contiguousStrides, numel, type Shape, show } from "../graph/shape.ts";
import { grid2d, MAX_GROUPS } from "../lowering/grid.ts";
import { checkOptions, definitionError, guarded, kindOf } from "./definition.ts";
import { scalarOf, usedOutside, type WgslFile, widthOf } from "./wgsl-file.ts";

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
  /** Values for `const NAME: type = …; // param` and `alias NAME = …; // param`. Undefined: the value in the file. */
  parameters?: Readonly<Record<string, number | string | boolean | undefined>>;
  /** Words of the uniform struct at @binding(0), in order: integers. Floats go through `f32Bits`. */
  uniforms?: readonly number[];
  /** Buffers at @binding(1), @binding(2), … Default: inputs, then outputs. */
  buffers?: readonly KernelBuffer[];
  /** Workgroups in x, y, z, each from 1 to 65,535; or their number, which is spread over x and y. */
  workgroups: number | readonly [number, number, number];
  /**
   * Hooks `fn NAME(at: u32) -> T { // hook` through which alone the file reads an input: elementwise work on it may be
   * computed there. `at` is the position of an element, in vec4f hooks of the first of four. `reads`: how often a value is
   * read on average (default 1). `type` follows from the file.
   */
  prologues?: readonly {
    readonly input: number;
    readonly hook: string;
    readonly type?: "f32" | "vec4f";
    readonly reads?: number;
  }[];
  /**
   * The file passes every result through `fn epilogue(value: T, i: vec3u) -> T { // hook` before it stores it, with
   * i = batch, row, column (in vec4f hooks of the first of four): elementwise work on the result may be computed there.
   * Default space: [1, 1, elements]. `type` follows from the file.
   */
  epilogue?: { readonly type?: "f32" | "vec4f"; readonly space?: readonly [number, number, number] };
  /** Arithmetic of the dispatch, for reports. */
  flops?: number;
}

export type PlanDispatches<A> = (cx: KernelContext<A>) => Dispatch | readonly Dispatch[] | undefined;

type Fail = (problem: string) => never;

/** The lowering that a user's `dispatch` describes. `tuned`: the name under which its choices are measured. */
export function lowerBy<A>(
  name: string,
  tuned: string,
  files: ReadonlyMap<string, WgslFile>,
  dispatch: PlanDispatches<A>,
  origin: Origin,
): Lower {
  const plan = guarded(name, origin, "dispatch", dispatch);
  const fail: Fail = (problem) => {
    throw definitionError(name, origin, `dispatch: ${problem}`);
  };
  return (node, cx) => {
    const call = new Call<A>(node, cx, tuned, fail);
    const planned = plan(call.context);
    if (planned === undefined || planned === null) return undefined;
    const list: readonly Dispatch[] = Array.isArray(planned) ? planned : [planned];
    if (list.length === 0) fail("an empty list computes nothing; undefined runs the fallback");
    const calls = list.map((d) => {
      if (kindOf(d) !== "object") fail(`a dispatch or a list of dispatches expected, got ${kindOf(d)}`);
      checkOptions(`${name}: dispatch`, origin, d, OPTIONS);
      const file = files.get(d.kernel ?? "");
      return call.lower(
        file ?? fail(`kernel ${d.kernel} is not in wgsl, which has ${[...files.keys()].join(", ")}`),
        d,
      );
    });
    call.checkOutputs();
    return calls;
  };
}

const OPTIONS = {
  kernel: "undefined string",
  parameters: "undefined object",
  uniforms: "undefined array",
  buffers: "undefined array",
  workgroups: "number array",
  prologues: "undefined array",
  epilogue: "undefined object",
  flops: "undefined number",
};

/** The dispatches of one node. */
class Call<A> {
  readonly context: KernelContext<A>;
  private readonly refs = new Map<KernelBuffer, BufferRef>();
  /** Outputs and scratch that a dispatch so far may have written. */
  private readonly written = new Set<BufferRef>();

  constructor(
    private readonly node: Node,
    cx: LowerContext,
    tuned: string,
    private readonly fail: Fail,
  ) {
    this.context = {
      inputs: node.src.map((s, i) => {
        const { buffer, offset, strides } = cx.operand(i);
        return this.buffer(buffer, { shape: s.shape, dtype: s.dtype, offset, strides });
      }),
      outputs: (node.outputs ?? [node]).map(({ shape, dtype }, i) => this.contiguous(cx.output(i), shape, dtype)),
      attributes: node.attrs as A,
      device: cx.device,
      scratch: (bytes) => {
        if (!(Number.isFinite(bytes) && bytes > 0)) fail(`scratch takes a positive number of bytes, got ${bytes}`);
        const words = Math.ceil(bytes / 4);
        return this.contiguous(cx.temp(4 * words), [words], "u32");
      },
      choose: (sizes, candidates) => {
        const count = Array.isArray(candidates) ? candidates.length : 0;
        if (count < 1 || count > 12) fail(`choose takes a list of 1 to 12 candidates, got ${count}`);
        return cx.choose(tuned, sizes, candidates);
      },
    };
  }

  lower(file: WgslFile, d: Dispatch): KernelCall {
    const { inputs, outputs } = this.context;
    const buffers = d.buffers ?? [...inputs, ...outputs];
    const bind = buffers.map(
      (b) => this.refs.get(b) ?? this.fail("buffers may hold inputs, outputs and scratch of this call only"),
    );
    const given = Object.entries(d.parameters ?? {}).filter(([, v]) => v !== undefined);
    this.checkParameters(file, given);
    this.checkUniforms(file, d);
    this.checkBindings(file, buffers, bind);
    return {
      kernel: file.kernel,
      params: Object.fromEntries(given.map(([name, v]) => [name, typeof v === "boolean" ? Number(v) : v!])),
      dims: d.uniforms ?? [0],
      bind,
      grid: gridOf(d.workgroups, this.fail),
      flops: d.flops,
      prologues: this.prologues(file, d, buffers),
      epilogue: d.epilogue && this.epilogue(file, d, d.epilogue),
    };
  }

  /** Throws unless each output was bound for writing. */
  checkOutputs(): void {
    this.context.outputs.forEach((output, i) => {
      if (!this.written.has(this.refs.get(output)!))
        this.fail(`no dispatch writes output ${i}, ${show(output.shape)}; bind it to a var<storage, read_write>`);
    });
  }

  private buffer(ref: BufferRef, buffer: KernelBuffer): KernelBuffer {
    this.refs.set(buffer, ref);
    return buffer;
  }

  private contiguous(ref: BufferRef, shape: Shape, dtype: DType): KernelBuffer {
    return this.buffer(ref, { shape, dtype, offset: 0, strides: contiguousStrides(shape) });
  }

  private checkParameters(file: WgslFile, given: readonly (readonly [string, unknown])[]): void {
    for (const [parameter, value] of given) {
      const known = file.parameters.get(parameter);
      if (!known)
        this.fail(
          `the WGSL has no parameter ${parameter}; its parameters: ${[...file.parameters.keys()].join(", ") || "none"}`,
        );
      if (!holds(known!.type, value))
        this.fail(
          `parameter ${parameter}: ${known!.type} does not hold ${typeof value === "string" ? JSON.stringify(value) : value}`,
        );
    }
  }

  private checkUniforms({ uniformWords }: WgslFile, { uniforms = [] }: Dispatch): void {
    uniforms.forEach((word, i) => {
      if (!(Number.isInteger(word) && word >= -(2 ** 31) && word < 2 ** 32))
        this.fail(`uniforms[${i}] must be an integer of 32 bits, got ${word}; floats go through f32Bits`);
    });
    const [least, most] = uniformWords ?? [0, Infinity];
    if (uniforms.length < least || uniforms.length > most)
      this.fail(`the uniform has ${least} words, uniforms ${uniforms.length}`);
  }

  /** Throws unless the file's storage bindings fit the buffers in number, access and element type. Notes what is written. */
  private checkBindings({ storage }: WgslFile, buffers: readonly KernelBuffer[], bind: readonly BufferRef[]): void {
    const { inputs, outputs } = this.context;
    const shapes = (list: readonly KernelBuffer[]): string => list.map((b) => show(b.shape)).join(", ");
    if (storage.length !== bind.length)
      this.fail(
        `the WGSL binds ${storage.length} storage buffers (${storage.map((b) => b.name).join(", ")}), the call ${bind.length}: inputs ${shapes(inputs)}, outputs ${shapes(outputs)}`,
      );
    storage.forEach(({ name, kind, element }, i) => {
      const input = inputs.indexOf(buffers[i]);
      const output = outputs.indexOf(buffers[i]);
      if (output >= 0 && kind !== "read_write" && !this.written.has(bind[i]))
        this.fail(`${name} holds output ${output}, so the WGSL must declare it var<storage, read_write>`);
      if (input >= 0 && kind === "read_write")
        this.fail(`${name} holds input ${input}, so the WGSL must declare it var<storage, read>`);
      if (input < 0 && kind === "read" && !this.written.has(bind[i]))
        this.fail(`${name} reads a scratch buffer that no dispatch before writes`);
      const stored = STORED[buffers[i].dtype];
      if ((input >= 0 || output >= 0) && element && scalarOf(element) !== stored)
        this.fail(
          `${name} holds ${input >= 0 ? `input ${input}` : `output ${output}`} of dtype ${buffers[i].dtype}, so the WGSL must declare it array<${stored}>, not array<${element}>; an alias of the type is not checked`,
        );
    });
    this.node.op.inPlace?.forEach((input, output) => {
      if (buffers.includes(inputs[input]) && buffers.includes(outputs[output]))
        this.fail(
          `output ${output} is the buffer of input ${input}, which the op updates in place; bind the output alone, it holds the input's values`,
        );
    });
    storage.forEach(({ name, kind }, i) => {
      if (kind !== "read_write") return;
      const other = bind.findIndex((ref, k) => ref === bind[i] && k !== i);
      if (other >= 0) this.fail(`${name} and ${storage[other].name} bind one buffer, and ${name} may write it`);
      this.written.add(bind[i]);
    });
  }

  private prologues(file: WgslFile, d: Dispatch, buffers: readonly KernelBuffer[]): Prologue[] | undefined {
    const { inputs } = this.context;
    const list = d.prologues?.map((prologue): Prologue => {
      this.checkKeys("prologue", prologue, ["input", "hook", "type", "reads"]);
      const { input, hook, type, reads = 1 } = prologue;
      const source = inputs[input] ? buffers.indexOf(inputs[input]) : -1;
      if (source < 0)
        this.fail(`a prologue of input ${input}, which is not bound; the op has ${inputs.length} inputs, from 0 on`);
      if (!(Number.isFinite(reads) && reads > 0)) this.fail(`prologue ${hook}: reads must be positive, got ${reads}`);
      const elements = numel(this.node.src[input].shape);
      const space = { shape: [elements] as const, type: this.hookType(file, d, hook, type, false, elements) };
      const { name } = file.storage[source];
      const others = d.prologues!.filter((p) => p.input === input).map((p) => p.hook);
      if (usedOutside(file, name, others))
        this.fail(`the WGSL uses ${name} outside of ${others.join(", ")}, so that work computed there would be missed`);
      return { ...space, source, hook, readings: reads, copies: 1 };
    });
    return list?.filter(({ source }) => buffers[source].dtype !== "bool"); // stored as u32, but fused work gives a bool
  }

  private epilogue(file: WgslFile, d: Dispatch, given: NonNullable<Dispatch["epilogue"]>): KernelCall["epilogue"] {
    this.checkKeys("epilogue", given, ["type", "space"]);
    const elements = numel(this.node.shape);
    const { type, space = [1, 1, elements] } = given;
    const valid = Array.isArray(space) && space.length === 3 && space.every((n) => Number.isInteger(n) && n > 0);
    if (!valid || numel(space) !== elements)
      this.fail(
        `the epilogue's space [batch, rows, columns] must have the ${elements} elements of ${show(this.node.shape)}, got [${space}]`,
      );
    return { shape: space, type: this.hookType(file, d, "epilogue", type, true, space[2]) };
  }

  private checkKeys(what: string, given: object, known: readonly string[]): void {
    if (kindOf(given) !== "object") this.fail(`${what}: an object of options expected, got ${kindOf(given)}`);
    for (const key of Object.keys(given))
      if (!known.includes(key)) this.fail(`${what}: unknown option ${key}; options: ${known.join(", ")}`);
  }

  /** How many components a hook passes; throws if the file has no such hook, or `columns` do not fit. */
  private hookType(
    file: WgslFile,
    d: Dispatch,
    name: string,
    given: string | undefined,
    epilogue: boolean,
    columns: number,
  ): HookSpace["type"] {
    const hook = file.hooks.get(name);
    if (!hook || hook.epilogue !== epilogue) {
      const names = [...file.hooks].filter(([, h]) => h.epilogue === epilogue).map(([n]) => n);
      this.fail(`the WGSL has no ${epilogue ? "epilogue" : "read"} hook ${name}; it has ${names.join(", ") || "none"}`);
    }
    const width = widthOf(file, hook!.type, d.parameters ?? {});
    if (!width) this.fail(`hook ${name} passes ${hook!.type}; a hook passes f32, i32, u32 or vectors of four of them`);
    const type = width === 4 ? "vec4f" : "f32";
    if (given !== undefined && given !== type)
      this.fail(`hook ${name} passes ${hook!.type} in the WGSL, type says ${given}`);
    if (width === 4 && columns % 4 !== 0)
      this.fail(
        `hook ${name} passes vectors of four, and ${columns} elements in a row are no multiple: use a scalar variant, or return undefined for the fallback`,
      );
    return type;
  }
}

/** What a kernel finds in the buffer of a dtype: halves are widened before it runs, booleans are 0 and 1. */
const STORED: Record<DType, string> = { f32: "f32", f16: "f32", i32: "i32", u32: "u32", bool: "u32" };

/** Whether a parameter of a WGSL type can have the value. */
function holds(type: string, value: unknown): boolean {
  if (type === "alias") return typeof value === "string" && /^[\w<>, ]+$/.test(value);
  if (type === "bool") return value === true || value === false || value === 0 || value === 1;
  if (type === "f32") return Number.isFinite(value);
  const [least, most] = type === "u32" ? [0, 2 ** 32] : [-(2 ** 31), 2 ** 31];
  return Number.isInteger(value) && (value as number) >= least && (value as number) < most;
}

function gridOf(workgroups: Dispatch["workgroups"], fail: Fail): readonly [number, number, number] {
  const grid = typeof workgroups === "number" ? grid2d(Math.ceil(workgroups)) : workgroups;
  if (!Array.isArray(grid) || grid.length !== 3 || !grid.every((n) => Number.isInteger(n) && n > 0 && n <= MAX_GROUPS))
    fail(
      `workgroups must be a positive number, or [x, y, z] from 1 to ${MAX_GROUPS} each, got ${Array.isArray(workgroups) ? show(workgroups) : workgroups}`,
    );
  return grid as readonly [number, number, number];
}
