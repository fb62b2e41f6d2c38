import type { KernelCall } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import type { DeviceInfo } from "../../runtime/device.ts";
import { computes } from "../expression/operand.ts";

/** Work that joins a template, which is a text of its own then. */
export interface Fusion {
  readonly core: Node;
  readonly kernel: string;
  /** What tells texts apart: that of the template as `core` calls it, and that with the work. */
  readonly plain: string;
  readonly text: string;
  /** Flops that a run saves: what is neither stored nor loaded, and the kernel that is not there (schedule.ts). */
  readonly saved: number;
}

export interface Fusions {
  readonly fusions: readonly Fusion[];
  /** Texts that are needed in any case. */
  readonly used: ReadonlySet<string>;
}

/** Runs of a plan that must repay the compilation of its texts. The drivers of GPUs compile in a fraction of that. */
const RUNS = { software: 50, integrated: Infinity, discrete: Infinity };
/** Of a run's time, what all that is left apart may cost at most: plans may run much more often. */
const SHARE = 0.015;
/** CPU ms that a software adapter's driver takes for a template with work, less those of an elementwise kernel (docs/log.md). */
const COMPILE: Readonly<Record<string, number>> = { matmul: 250, matmul_tiled: 250, sum_parts: 0, transpose: 0 };
const COMPILE_OTHERS = 70;
const FLOPS_PER_MS = 2 ** 20 / 0.04; // of a software adapter

/** How fusions of a plan are judged; `spare` are the flops of a run that may still be lost. */
export interface Judgement {
  readonly runs: number;
  spare: number;
}

/** For a plan of about `work` flops. */
export const judgement = (kind: DeviceInfo["kind"], fuse: boolean | "always", work: number): Judgement => ({
  runs: fuse === "always" ? Infinity : RUNS[kind],
  spare: SHARE * work,
});

/**
 * Fusions that are better left as kernels of their own, cheap texts that others may share: all that run in the plan with
 * one text save too little to pay for it. If nothing else needs the template as it is, leaving one fusion out would only
 * swap one text for another.
 */
function notWorth({ fusions, used }: Fusions, { runs, spare }: Judgement): Fusion[] {
  const templates = new Map<string, Map<string, Fusion[]>>();
  for (const f of fusions) {
    const texts = templates.get(f.plain) ?? new Map<string, Fusion[]>();
    templates.set(f.plain, texts.set(f.text, [...(texts.get(f.text) ?? []), f]));
  }
  const apart: Fusion[] = [];
  for (const [plain, texts] of templates) {
    const price = (COMPILE[fusions.find((f) => f.plain === plain)!.kernel] ?? COMPILE_OTHERS) * FLOPS_PER_MS;
    const lost = savedBy(apart);
    const poor: Fusion[][] = [];
    for (const list of [...texts.values()].sort((a, b) => savedBy(a) - savedBy(b)))
      if (runs * savedBy(list) < price && lost + savedBy([...poor.flat(), ...list]) <= spare) poor.push(list);
    const fewer = poor.length - (used.has(plain) ? 0 : 1); // texts
    if (runs * savedBy(poor.flat()) < fewer * price) apart.push(...poor.flat());
  }
  return apart;
}

const savedBy = (list: readonly Fusion[]): number => list.reduce((sum, f) => sum + f.saved, 0);

/** Fuses into a copy of `buffers`; again without what is not worth it, until all that is left is (others may take its place). */
export function fuseWorthy<T>(
  buffers: ReadonlySet<Node>,
  by: Judgement,
  fuse: (buffers: Set<Node>, apart: ReadonlySet<Node>) => T,
  judge: (value: T, buffers: ReadonlySet<Node>) => Fusions,
): { value: T; buffers: Set<Node> } {
  const apart = new Set<Node>();
  for (;;) {
    const own = new Set(buffers);
    const value = fuse(own, apart);
    const more = by.runs === Infinity ? [] : notWorth(judge(value, own), by);
    if (more.length === 0) return { value, buffers: own };
    by.spare -= savedBy(more);
    for (const { core } of more) apart.add(core);
  }
}

/** What tells a call's text from others. */
export const textOf = ({ kernel, params, reads }: KernelCall): string =>
  `${kernel} ${JSON.stringify(params)} ${JSON.stringify(reads?.hooks)}`;

/** What tells the text of elementwise work from others: its ops, down to `core` and to what is stored. */
export function workOf(node: Node, core: Node, buffers: ReadonlySet<Node>): string {
  const names = new Map<Node, string>();
  const name = (n: Node): string => {
    if (n !== node && (n === core || n.realized || buffers.has(n))) return n === core ? "core" : n.dtype;
    if (!computes(n)) return n.src.map(name).join();
    const known = names.get(n);
    if (known === undefined) names.set(n, `#${names.size}`);
    return known ?? `${n.op.name}${n.op.keyOf?.(n.attrs) ?? JSON.stringify(n.attrs)}(${n.src.map(name).join()})`;
  };
  return name(node);
}
