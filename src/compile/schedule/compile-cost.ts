import type { DeviceInfo } from "../../graph/device-info.ts";
import type { KernelCall } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { attrsText } from "../../graph/op.ts";
import { computes } from "../expression/operand.ts";

/** Elementwise ops fused into a template kernel. Each distinct fusion is a distinct shader to compile. */
export interface Fusion {
  readonly core: Node;
  readonly call: KernelCall;
  /** Key of the template's shader without the fused work, and of the shader with it. */
  readonly plain: string;
  readonly shader: string;
  /** Flops that a run saves: loads, stores and a dispatch that no longer happen. */
  readonly saved: number;
}

export interface Fusions {
  readonly fusions: readonly Fusion[];
  /** Shaders that are needed in any case. */
  readonly used: ReadonlySet<string>;
}

/** Runs of a plan that must repay the compilation of its shaders. The drivers of GPUs compile in a fraction of that. */
const RUNS = { software: 50, integrated: Infinity, discrete: Infinity };
/** Share of a run's time that all omitted fusions may cost together: plans may run much more often. */
const SHARE = 0.015;
/** CPU ms by which a software driver compiles a fused template longer than an elementwise kernel (docs/log.md). */
const COMPILE_MS = 70;
const FLOPS_PER_MS = 2 ** 20 / 0.04; // of a software adapter

/** State of the choice of fusions. `spare`: flops per run that omitted fusions may still cost. */
export interface Judgement {
  readonly runs: number;
  spare: number;
}

/** For a plan of about `work` flops per run. */
export const judgement = (kind: DeviceInfo["kind"], fuse: boolean | "always", work: number): Judgement => ({
  runs: fuse === "always" ? Infinity : RUNS[kind],
  spare: SHARE * work,
});

/**
 * Fusions that are better left as kernels of their own. All fusions of a plan that share a shader are judged together: they
 * must save enough to repay its compilation. If nothing else needs the template without fused work, omitting one fusion only
 * exchanges one shader for another.
 */
function notWorthwhile({ fusions, used }: Fusions, { runs, spare }: Judgement): Fusion[] {
  const templates = new Map<string, Map<string, Fusion[]>>();
  for (const f of fusions) {
    const shaders = templates.get(f.plain) ?? new Map<string, Fusion[]>();
    templates.set(f.plain, shaders.set(f.shader, [...(shaders.get(f.shader) ?? []), f]));
  }
  const apart: Fusion[] = [];
  for (const [plain, shaders] of templates) {
    const price = (fusions.find((f) => f.plain === plain)!.call.compileMs ?? COMPILE_MS) * FLOPS_PER_MS;
    const lost = savedBy(apart);
    const poor: Fusion[][] = [];
    for (const list of [...shaders.values()].sort((a, b) => savedBy(a) - savedBy(b)))
      if (runs * savedBy(list) < price && lost + savedBy([...poor.flat(), ...list]) <= spare) poor.push(list);
    const fewer = poor.length - (used.has(plain) ? 0 : 1); // shaders
    if (runs * savedBy(poor.flat()) < fewer * price) apart.push(...poor.flat());
  }
  return apart;
}

const savedBy = (list: readonly Fusion[]): number => list.reduce((sum, f) => sum + f.saved, 0);

/**
 * Fuses into a copy of `buffers`, then repeats without the fusions that do not repay their shader, until all remaining ones do.
 * It repeats because an omitted fusion can make others possible.
 */
export function keepWorthwhile<T>(
  buffers: ReadonlySet<Node>,
  judge: Judgement,
  fuse: (buffers: Set<Node>, apart: ReadonlySet<Node>) => T,
  fusionsOf: (value: T, buffers: ReadonlySet<Node>) => Fusions,
): { value: T; buffers: Set<Node> } {
  const apart = new Set<Node>();
  for (;;) {
    const own = new Set(buffers);
    const value = fuse(own, apart);
    const more = judge.runs === Infinity ? [] : notWorthwhile(fusionsOf(value, own), judge);
    if (more.length === 0) return { value, buffers: own };
    judge.spare -= savedBy(more);
    for (const { core } of more) apart.add(core);
  }
}

/** Calls with equal keys have the same shader. */
export const shaderOf = ({ kernel, params, reads }: KernelCall): string =>
  `${kernel} ${JSON.stringify(params)} ${JSON.stringify(reads?.hooks)}`;

/** Key of elementwise work: its ops, down to `core` and to stored values. Equal keys give the same shader code. */
export function workKey(node: Node, core: Node, buffers: ReadonlySet<Node>): string {
  const names = new Map<Node, string>();
  const name = (n: Node): string => {
    if (n !== node && (n === core || n.realized || buffers.has(n))) return n === core ? "core" : n.dtype;
    if (!computes(n)) return n.src.map(name).join();
    const known = names.get(n);
    if (known === undefined) names.set(n, `#${names.size}`);
    return known ?? `${n.op.name}${attrsText(n)}(${n.src.map(name).join()})`;
  };
  return name(node);
}
