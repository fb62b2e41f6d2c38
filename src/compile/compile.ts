import { kernelSource } from "../../kernels/index.ts";
import type { Graph } from "../graph/collect.ts";
import { reshapeIndex, variable } from "../graph/index-map.ts";
import type { HookSpace, KernelCall } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import type { Device, DeviceInfo } from "../runtime/device.ts";
import { type Location, Plan, type Step } from "../runtime/plan.ts";
import { type Asker, answer } from "../runtime/tuner/measure.ts";
import { type Bound, decode, describe, elementwiseKernels, type Kernel } from "./codegen/elementwise.ts";
import { bufferDeclaration, Emitter } from "./codegen/emit.ts";
import { reduceKernels } from "./codegen/reduce.ts";
import { bindings, specialize } from "./codegen/template.ts";
import { type Expr, ExprBuilder, type ExprScope } from "./expression/expr.ts";
import { normalize, type Space } from "./expression/space.ts";
import { type Expanded, expand, makeTemp } from "./lower/expand.ts";
import { Places } from "./memory/buffer-assignment.ts";
import { askFor, chooseVariants } from "./schedule/choose.ts";
import { type Group, prologuesOf, type Schedule, schedule } from "./schedule/schedule.ts";

export interface CompileOptions {
  /** Off: one kernel per node, for tests and for finding faults. "always": whatever it costs to compile. */
  readonly fuse: boolean | "always";
  /** Most bytes that a plan may need beside its leaves; see `PlanReport.peakBytes`. */
  readonly memoryBudget?: number;
}

/** A compiled graph before anything exists on the GPU: what will run, where values lie, how much memory it takes. */
export interface Layout extends Asker {
  readonly kernels: readonly (Kernel & { readonly group: Group; readonly at: readonly (Location | undefined)[] })[];
  readonly places: Places;
  /** Gives the tuner what it has no answer for. */
  ask(): void;
  readonly leaves: number;
  /** When (see `Graph.times`) most memory is in use. */
  readonly peakAt: number;
}

/** Expands, schedules, generates and places a graph. Touches no GPU, so that a plan can be judged before it is made. */
export function layOut(graph: Graph, device: Device, options: CompileOptions): Layout {
  const expanded = expand(graph, device);
  const places = new Places(graph, expanded);
  const once = (calls: Expanded["calls"]): Schedule =>
    schedule(expanded.order, places.wanted, {
      maxBuffers: device.info.maxStorageBuffers,
      maxBindingBytes: device.info.maxBindingBytes,
      kind: device.info.kind,
      sequence: (n) => expanded.sequence.get(n)!,
      callsOf: (n) => calls.get(n) ?? [],
      fuse: options.fuse,
    });
  const choice = chooseVariants(expanded, device, once);
  const { plan } = choice;
  const kernels = plan.groups.flatMap((g) => kernelsOf(g, plan, expanded, device).map((k) => ({ ...k, group: g })));
  places.locate(plan, kernels);
  const located = kernels.map((k) => ({ ...k, at: k.bind.map((b) => ("ref" in b ? places.of(b.ref) : undefined)) }));
  for (const { label, at } of located)
    for (const bound of at)
      if (bound && bound.bytes > device.info.maxBindingBytes)
        throw new RangeError(
          `${label}: it binds ${bound.bytes} bytes at once, this adapter at most ${device.info.maxBindingBytes}, and there is no way known to split the work`,
        );
  const fullest = kernels[Math.min(places.fullest, kernels.length) - 1];
  const peakAt = fullest ? expanded.sequence.get(fullest.group.root)! : 0;
  const finish: Asker["finish"] = (core, call) => {
    const group = plan.groups.find((g) => g.core === core);
    return templateKernel(call, { root: core, ...group, core }, scopeOf(plan), device.info);
  };
  const ask = (): void => askFor(choice, expanded, device);
  return { kernels: located, places, finish, holds: choice.holds, ask, leaves: graph.leaves.length, peakAt };
}

/** What `make` gives, after measuring the kernel variants that it met and nothing is known of, if the device is to. */
export async function tuned(device: Device, make: () => Layout): Promise<Layout> {
  const layout = make();
  if (device.tuner.asking) layout.ask();
  if (device.tuner.open.size === 0) return layout;
  await answer(device, layout);
  return make();
}

/** What a plan will do and need, known before anything runs. */
export interface PlanReport {
  readonly kernels: number;
  /** Distinct WGSL texts among them: what is compiled, unless another plan did. */
  readonly pipelines: number;
  /**
   * Bytes that the plan allocates while it runs: temporaries, packed gradients, results that are kept. Leaves
   * (parameters, moments, caches) are there before and not counted.
   */
  readonly peakBytes: number;
  /** What must be alive at once whatever the placement: no plan in this order of kernels needs less. */
  readonly lowerBound: number;
  /** One line a kernel. */
  readonly text: string;
}

export function report({ kernels, places }: Layout): PlanReport {
  return {
    kernels: kernels.length,
    pipelines: new Set(kernels.map((k) => k.code)).size,
    peakBytes: places.peakBytes,
    lowerBound: places.lowerBound,
    text: textOf(kernels),
  };
}

const textOf = (kernels: Layout["kernels"]): string =>
  kernels
    .map(
      (k, i) =>
        `${String(i).padStart(4)}  ${k.label.padEnd(40)} [${k.group.root.shape.join(",")}] ${k.group.root.dtype}  ${k.grid.join("x")} workgroups${k.group.root.site ? `  ${k.group.root.site}` : ""}`,
    )
    .join("\n");

/** Makes a plan of a layout; its pipelines compile in parallel. */
export async function compile(layout: Layout, device: Device): Promise<Plan> {
  const { kernels, places, leaves } = layout;
  const words: number[] = [];
  const uniformAt = (w: readonly number[]): { at: number; bytes: number } => {
    const at = words.length * 4;
    for (const x of w) words.push(x >>> 0);
    while (words.length % 64 || words.length * 4 === at) words.push(0); // 256-byte alignment of bindings
    return { at, bytes: Math.max(16, Math.ceil(w.length / 4) * 16) };
  };
  const uniforms = kernels.map((k) => k.bind.map((b) => ("words" in b ? uniformAt(b.words) : undefined)));
  const pipelines = await Promise.all(kernels.map(({ code, label }) => device.pipelines.get(code, label)));
  const { finishes, temps, uploads, uploadBytes, peakBytes } = places;
  return device.guard(() => {
    const buffer = device.pool.permanent(Math.max(words.length * 4, 256), 0x40 | 0x08 /* UNIFORM | COPY_DST */);
    device.gpu.queue.writeBuffer(buffer, 0, new Uint32Array(words));
    const steps = kernels.map(
      (k, i): Step => ({
        label: k.label,
        pipeline: pipelines[i],
        grid: k.grid,
        flops: k.flops,
        bytes: k.at.reduce((sum, at) => sum + (at?.bytes ?? 0), 0),
        bind: k.at.map((at, j): Location => {
          const uniform = uniforms[i][j];
          return at ?? { in: "fixed", buffer, offset: uniform!.at, bytes: uniform!.bytes };
        }),
      }),
    );
    const parts = { steps, finishes, temps, uploads, uploadBytes, uniforms: buffer, peakBytes, text: textOf(kernels) };
    return new Plan(device, parts, leaves);
  });
}

const scopeOf = (plan: Schedule): ExprScope => ({ isBuffer: (n) => plan.buffers.has(n) });

function kernelsOf(group: Group, plan: Schedule, expanded: Expanded, device: Device): Kernel[] {
  const { root, core } = group;
  const scope = scopeOf(plan);
  if (root.op.name === "pack") return [];
  if (!core) return elementwiseKernels(root, scope, device.info);
  if (core.op.kind === "reduce") return reduceKernels(core, root, scope, { device: device.info, temp: makeTemp });
  return expanded.calls.get(core)!.map((call) => templateKernel(call, { ...group, core }, scope, device.info));
}

/** The dims that the loads of an expression over `count` elements in a row walk; one where four neighbours lie in two rows. */
function dimsOf(count: number, expr: Expr, width: 1 | 4): Space {
  const { space } = normalize({ sizes: [count], exprs: [expr] }, []);
  return space.sizes[space.sizes.length - 1] % width === 0 ? space : { sizes: [count], exprs: [expr] };
}

/** A template call, with the elementwise work that makes sources and that from `core` to `root` in its hooks. */
function templateKernel(
  call: KernelCall,
  { root, core, made }: Group & { core: Node },
  scope: ExprScope,
  device: DeviceInfo,
): Kernel {
  const { params, grid, flops } = call;
  const source = specialize(kernelSource(call.kernel), { params, ...call.reads });
  const kinds = bindings(source);
  const bind: Bound[] = [
    { words: call.dims },
    ...call.bind.map((ref, i) => ({ ref: ref === core ? root : ref, write: kinds[i + 1]?.kind === "read_write" })),
  ];
  if (bind.length !== kinds.length)
    throw new Error(`internal: kernel ${call.kernel} has ${kinds.length} bindings, its call ${bind.length}`);
  const hooks: Record<string, string> = {};
  const extra: string[] = [];
  const helpers = new Set<string>();
  let directives = "";
  let label = call.kernel;
  let writes: string | undefined;
  let halves: string | undefined;

  /** Work in a hook: binds what it loads, and returns its statements, the value's name and what it is called. */
  const hook = (node: Node, { shape, type }: HookSpace, prefix: string, register?: (n: Node) => Expr | undefined) => {
    const width = type === "vec4f" ? 4 : 1;
    const builder = new ExprBuilder({ isBuffer: scope.isBuffer, register });
    const index = shape.map((size, d) => variable(d, size));
    const whole = builder.build(node, reshapeIndex(index, shape, node.shape), true);
    const { sizes, exprs } = shape.length === 1 ? dimsOf(shape[0], whole, width) : { sizes: shape, exprs: [whole] };
    const known = { 1: ["at"], 3: ["i.x", "i.y", "i.z"] }[shape.length];
    const names = sizes.length === shape.length ? known : sizes.map((_, d) => `${prefix}${d}`);
    const vector = width === 4 ? sizes.length - 1 : -1;
    const emitter = new Emitter({ variables: names, vector, prefix, device });
    emitter.declare(exprs);
    const dims = names === known ? [] : decode(emitter, width === 4 ? "at / 4u" : "at", names, sizes, vector);
    const result = emitter.emit(exprs[0], width);
    const value = node.dtype === "f16" ? `${type}(${result})` : result;
    const body = [...dims, emitter.take()].join("\n");
    // `specialize` numbers the bindings itself.
    const unnumbered = (declaration: string): string => declaration.slice(declaration.indexOf("var<"));
    const buffers = [...emitter.buffers.values()];
    for (const b of buffers) {
      extra.push(unnumbered(bufferDeclaration(0, b.name, b.node.dtype, b.vector, "read")));
      bind.push({ ref: b.node, write: false });
    }
    extra.push(`var<uniform> ${prefix}n: array<vec4u, ${Math.max(1, Math.ceil(emitter.numbers.length / 4))}>;`);
    bind.push({ words: emitter.numbers });
    for (const text of emitter.helpers) helpers.add(text);
    directives ||= emitter.directives;
    return { body, value, buffers, name: describe(exprs) };
  };

  const prologues = prologuesOf(call, made).map((p) => {
    const node = call.bind[p.source] as Node;
    const { body, value, buffers, name } = hook(node, p, `p${p.source}_`);
    const binding = p.source + 1;
    if (scope.isBuffer(node)) {
      writes = kinds[binding].name;
      bind[binding] = { ref: node, write: true };
      hooks[p.first!] = `${body}\n${writes}[at] = ${value};\nreturn ${value};`;
    } else {
      bind[binding] = { ref: buffers[0].node, write: false }; // never read: something must be bound
      hooks[p.again] = `${body}\nreturn ${value};`;
      if (p.first) hooks[p.first] = hooks[p.again];
    }
    return name;
  });
  if (prologues.length > 0) label = `${prologues.join("&")}→${label}`;
  if (call.epilogue && root !== core) {
    const width = call.epilogue.type === "vec4f" ? 4 : 1;
    const result: Expr = { kind: "register", name: "value", width, dtype: core.dtype };
    const { body, value, name } = hook(root, call.epilogue, "e_", (n) => (n === core ? result : undefined));
    label = `${label}→${name}`;
    hooks.epilogue = `${body}\nreturn ${value};`;
    if (root.dtype === "f16") {
      halves = kinds[call.bind.indexOf(core) + 1].name;
      const { at, inside = "true" } = call.epilogue.store!;
      hooks.store = `if (${inside}) { ${halves}[${at}] = vec2u(pack2x16float(value.xy), pack2x16float(value.zw)); }`;
    }
  }
  if (Object.keys(hooks).length === 0) return { label, code: source, bind, grid, flops };
  const code = specialize(source, { hooks, writes, halves, extraBindings: extra, helpers: [...helpers].join("\n") });
  return { label, code: directives + code, bind, grid, flops };
}
