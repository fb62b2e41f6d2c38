import { kernelPlace, kernelSource } from "../../../kernels/index.ts";
import type { DeviceInfo } from "../../graph/device-info.ts";
import { PACK_HALVES } from "../../graph/dtype.ts";
import { reshapeIndex, variable } from "../../graph/index-map.ts";
import type { HookSpace, KernelCall, Prologue } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import type { Origin } from "../../graph/op.ts";
import { type Expr, ExprBuilder, type ExprScope } from "../expression/expr.ts";
import { normalize, type Space } from "../expression/space.ts";
import { prologuesOf } from "../schedule/prologues.ts";
import type { Group } from "../schedule/schedule.ts";
import { bufferDeclaration, type EmittedBuffer, Emitter } from "./emit.ts";
import { foldGrid } from "./fold-grid.ts";
import { type Bound, decode, describe, type Kernel } from "./kernel.ts";
import { type Binding, bindings, specialize } from "./template.ts";

/** The kernel of a template call with its fused work: prologues in hooks that read sources, the epilogue in the hook of the store. */
export function templateKernel(
  call: KernelCall,
  group: Group & { core: Node },
  scope: ExprScope,
  device: DeviceInfo,
): Kernel {
  const fusion = new TemplateFusion(call, group, scope, device);
  for (const p of prologuesOf(call, group.prologues)) fusion.addPrologue(p);
  if (call.epilogue && group.root !== group.core) fusion.addEpilogue(call.epilogue);
  return foldGrid(fusion.kernel());
}

/** The body of a hook. */
interface HookBody {
  readonly statements: string;
  /** WGSL of the computed value. */
  readonly value: string;
  readonly buffers: readonly EmittedBuffer[];
  /** Names of the ops, for labels. */
  readonly name: string;
}

class TemplateFusion {
  private readonly source: string;
  private readonly bindings: readonly Binding[];
  private readonly bind: Bound[];
  private readonly hooks: Record<string, string> = {};
  private readonly extraBindings: string[] = [];
  private readonly helpers = new Set<string>();
  private readonly origins = new Set<Origin>();
  private readonly prologueNames: string[] = [];
  private directives = "";
  private epilogueName = "";
  private writes?: string;
  private halves?: string;

  constructor(
    private readonly call: KernelCall,
    private readonly group: Group & { core: Node },
    private readonly scope: ExprScope,
    private readonly device: DeviceInfo,
  ) {
    this.source = specialize(kernelSource(call.kernel), { params: call.params, ...call.reads });
    this.bindings = bindings(this.source);
    const own = (i: number): Bound => {
      const ref = call.bind[i];
      const write = this.bindings[i + 1]?.kind === "read_write";
      return { ref: ref === group.core ? group.root : ref, write };
    };
    const place = kernelPlace(call.kernel);
    if (place) this.origins.add({ place, wgsl: kernelSource(call.kernel) });
    this.bind = [{ words: call.dims }, ...call.bind.map((_, i) => own(i))];
    if (this.bind.length !== this.bindings.length)
      throw new Error(
        `kernel ${call.kernel}: the file declares ${this.bindings.length} bindings (uniform included), its lowering binds ${this.bind.length}`,
      );
  }

  addPrologue(p: Prologue): void {
    const node = this.call.bind[p.source] as Node;
    const { statements, value, buffers, name } = this.hookBody(node, p, `p${p.source}_`);
    const binding = p.source + 1;
    this.prologueNames.push(name);
    if (this.scope.isBuffer(node)) {
      this.writes = this.bindings[binding].name;
      this.bind[binding] = { ref: node, write: true };
      this.hooks[p.firstHook!] = `${statements}\n${this.writes}[at] = ${value};\nreturn ${value};`;
      return;
    }
    this.bind[binding] = { ref: buffers[0].node, write: false }; // never read, but a binding needs some buffer
    this.hooks[p.hook] = `${statements}\nreturn ${value};`;
    if (p.firstHook) this.hooks[p.firstHook] = this.hooks[p.hook];
  }

  addEpilogue(epilogue: NonNullable<KernelCall["epilogue"]>): void {
    const { core, root } = this.group;
    const width = epilogue.type === "vec4f" ? 4 : 1;
    const result: Expr = { kind: "register", name: "value", width, dtype: core.dtype };
    const { statements, value, name } = this.hookBody(root, epilogue, "e_", (n) => (n === core ? result : undefined));
    this.epilogueName = name;
    this.hooks.epilogue = `${statements}\nreturn ${value};`;
    if (root.dtype !== "f16") return;
    this.halves = this.bindings[this.call.bind.indexOf(core) + 1].name;
    const { at, inside = "true" } = epilogue.store!;
    this.helpers.add(PACK_HALVES);
    const packed = "vec2u(pack_halves(value.xy), pack_halves(value.zw))";
    this.hooks.store = `if (${inside}) { ${this.halves}[${at}] = ${packed}; }`;
  }

  kernel(): Kernel {
    const { call, bind, hooks, writes, halves, extraBindings } = this;
    const { grid, flops } = call;
    const before = this.prologueNames.length > 0 ? `${this.prologueNames.join("&")}→` : "";
    const label = `${before}${call.kernel}${this.epilogueName && `→${this.epilogueName}`}`;
    const origins = [...this.origins];
    if (Object.keys(hooks).length === 0) return { label, code: this.source, bind, grid, flops, origins };
    const helpers = [...this.helpers].join("\n");
    const code = specialize(this.source, { hooks, writes, halves, extraBindings, helpers });
    return { label, code: this.directives + code, bind, grid, flops, origins };
  }

  /** The work of `node` over a hook's index space. Binds what it loads; names begin with `prefix`. */
  private hookBody(
    node: Node,
    { shape, type }: HookSpace,
    prefix: string,
    register?: (n: Node) => Expr | undefined,
  ): HookBody {
    const width = type === "vec4f" ? 4 : 1;
    const builder = new ExprBuilder({ isBuffer: this.scope.isBuffer, register });
    const index = shape.map((size, d) => variable(d, size));
    const whole = builder.build(node, reshapeIndex(index, shape, node.shape), true);
    const { sizes, exprs } = shape.length === 1 ? dimsOf(shape[0], whole, width) : { sizes: shape, exprs: [whole] };
    const given = { 1: ["at"], 3: ["i.x", "i.y", "i.z"] }[shape.length]; // names that the template passes
    const names = sizes.length === shape.length ? given! : sizes.map((_, d) => `${prefix}${d}`);
    const vector = width === 4 ? sizes.length - 1 : -1;
    const emitter = new Emitter({ variables: names, vector, prefix, device: this.device });
    emitter.declare(exprs);
    const decoded = names === given ? [] : decode(emitter, width === 4 ? "at / 4u" : "at", names, sizes, vector);
    const result = emitter.emit(exprs[0], width);
    const statements = [...decoded, emitter.take()].join("\n");
    this.bindWork(emitter, prefix);
    return {
      statements,
      value: node.dtype === "f16" ? `${type}(${result})` : result,
      buffers: [...emitter.buffers.values()],
      name: describe(exprs),
    };
  }

  /** Adds bindings for the buffers that emitted work loads, and for its numbers. */
  private bindWork(emitter: Emitter, prefix: string): void {
    for (const b of emitter.buffers.values()) {
      const declaration = bufferDeclaration(0, b.name, b.node.dtype, b.vector, "read");
      this.extraBindings.push(declaration.slice(declaration.indexOf("var<"))); // `specialize` numbers bindings itself
      this.bind.push({ ref: b.node, write: false });
    }
    const vectors = Math.max(1, Math.ceil(emitter.numbers.length / 4));
    this.extraBindings.push(`var<uniform> ${prefix}n: array<vec4u, ${vectors}>;`);
    this.bind.push({ words: emitter.numbers });
    for (const helper of emitter.helpers) this.helpers.add(helper);
    for (const origin of emitter.origins) this.origins.add(origin);
    this.directives ||= emitter.directives;
  }
}

/** Iteration space of an expression of `count` elements: several dims where loads become simple, one if a vec4 would span two rows. */
function dimsOf(count: number, expr: Expr, width: 1 | 4): Space {
  const { space } = normalize({ sizes: [count], exprs: [expr] }, []);
  return space.sizes[space.sizes.length - 1] % width === 0 ? space : { sizes: [count], exprs: [expr] };
}
