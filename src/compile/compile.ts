import type { Graph } from "../graph/collect.ts";
import type { BufferRef, CompileTarget, KernelCall } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { kernelOfCall, kernelsOf } from "./codegen/generate.ts";
import type { Kernel } from "./codegen/kernel.ts";
import { shareCopies } from "./codegen/share-copies.ts";
import { expand } from "./lower/expand.ts";
import { BufferAssignment } from "./memory/buffer-assignment.ts";
import type { Finish, Location, Upload } from "./memory/location.ts";
import { askTuner, chooseVariants, type ScheduleWith } from "./schedule/choose.ts";
import { withinBudget } from "./schedule/recompute.ts";
import { schedule } from "./schedule/schedule.ts";

/*
 * The compiler: a graph of nodes → kernels, their order, and a location for every buffer. It runs nothing and touches no GPU.
 *
 *   expand      kernel nodes get template calls from the lowering table; nodes without a kernel become their fallback; nodes
 *               larger than a binding become nodes over parts                                                    (lower/)
 *   schedule    decides which nodes get a buffer and which are fused: elementwise chains, epilogues, prologues   (schedule/)
 *   generate    WGSL for elementwise work and reductions; template files with the fused work in their hooks      (codegen/)
 *               equal scratch values, such as the transposed input of q, k and v, are computed once
 *   assign      temporaries by lifetime, arenas, outputs                                                         (memory/)
 *
 * Three decisions depend on the result of a later pass, so three loops go round these passes. From the outside in:
 *
 * 1. Memory (`withinBudget`, schedule/recompute.ts). If a plan needs more bytes than `memoryBudget`, the graph is compiled
 *    again with activations recomputed in the backward pass. A binary search finds the fewest segments to recompute. Without
 *    a budget the loop runs once.
 * 2. Variants (`chooseVariants`, schedule/choose.ts). The tuner knows the fastest variant of a kernel *with* its prologue, but
 *    the schedule decides about the prologue by looking at the variant. So: schedule with the best plain variants, look up each
 *    kernel with the prologue it got, schedule again, and go back to the plain variant where the prologue was lost. At most
 *    three schedules; one where nothing was measured.
 * 3. Compile time (`keepWorthwhile`, schedule/compile-cost.ts). On a software adapter every distinct shader costs its driver
 *    70 ms, one of a matmul 250 ms. A fusion whose shader does not repay that within 50 runs is taken out and the schedule's rule runs again,
 *    because other fusions may now be possible. The set of omitted fusions only grows, so the loop ends.
 */

export interface CompileOptions {
  /** Off: one kernel per node, for tests and for finding faults. "always": fuse whatever it costs to compile. */
  readonly fuse: boolean | "always";
  /** Most bytes that a plan may need without its leaves; see `PlanReport.peakBytes`. */
  readonly memoryBudget?: number;
}

/** A kernel with the locations of its buffers; uniforms have none. */
export interface PlacedKernel extends Kernel {
  /** The node that it writes. */
  readonly root: Node;
  readonly at: readonly (Location | undefined)[];
}

/** A compiled graph: kernels, locations of values, bytes of memory. Nothing of it exists on the GPU yet. */
export interface CompiledGraph {
  readonly kernels: readonly PlacedKernel[];
  readonly finishes: readonly Finish[];
  readonly uploads: readonly (Upload | undefined)[];
  readonly uploadBytes: number;
  /** Bytes of each temporary buffer. */
  readonly temps: readonly number[];
  readonly leaves: number;
  readonly peakBytes: number;
  readonly lowerBound: number;
  /** When (see `Graph.times`) most memory is in use. */
  readonly peakAt: number;
  /** The kernel of one of a node's calls, with its fused work. */
  kernelOf(node: Node, call: KernelCall): Kernel;
  /** Whether the prologues of a node would be fused into these calls too. */
  keepsPrologues(node: Node, calls: readonly KernelCall[]): boolean;
  /** Asks the tuner about every kernel, so that it records the cases that were never measured. */
  ask(): void;
}

/** Compiles a graph within the memory budget. */
export const compile = (graph: Graph, target: CompileTarget, options: CompileOptions): CompiledGraph =>
  withinBudget(graph, options.memoryBudget ?? Infinity, (g) => compileOnce(g, target, options));

function compileOnce(graph: Graph, target: CompileTarget, options: CompileOptions): CompiledGraph {
  const { info } = target;
  const expanded = expand(graph, target);
  const memory = new BufferAssignment(graph, expanded);
  const scheduleWith: ScheduleWith = (calls) =>
    schedule(expanded.order, memory.wanted, {
      maxBuffers: info.maxStorageBuffers,
      maxBindingBytes: info.maxBindingBytes,
      kind: info.kind,
      sequence: (n) => expanded.sequence.get(n)!,
      callsOf: (n) => calls.get(n) ?? [],
      fuse: options.fuse,
    });
  const choice = chooseVariants(expanded, target, scheduleWith);
  const { plan } = choice;
  const kernels = shareCopies(
    plan.groups.flatMap((group) =>
      kernelsOf(group, plan, expanded.calls, info).map((k) => ({ ...k, root: group.root, core: group.core })),
    ),
  );
  memory.assign(plan, kernels);
  const fullest = kernels[Math.min(memory.fullest, kernels.length) - 1];
  return {
    kernels: kernels.map((k) => placed(k, (ref) => memory.of(ref), info.maxBindingBytes)),
    finishes: memory.finishes,
    uploads: memory.uploads,
    uploadBytes: memory.uploadBytes,
    temps: memory.temps,
    leaves: graph.leaves.length,
    peakBytes: memory.peakBytes,
    lowerBound: memory.lowerBound,
    peakAt: fullest ? expanded.sequence.get(fullest.root)! : 0,
    kernelOf: (core, call) => kernelOfCall(core, call, plan, info),
    keepsPrologues: choice.keepsPrologues,
    ask: () => askTuner(choice, expanded, target),
  };
}

function placed(
  kernel: Kernel & { root: Node },
  locate: (ref: BufferRef) => Location,
  maxBindingBytes: number,
): PlacedKernel {
  const at = kernel.bind.map((b) => ("ref" in b ? locate(b.ref) : undefined));
  for (const bound of at)
    if (bound && bound.bytes > maxBindingBytes)
      throw new RangeError(
        `${kernel.label}: it binds ${bound.bytes} bytes at once, this adapter at most ${maxBindingBytes}, and there is no way known to split the work`,
      );
  return { ...kernel, at };
}

/** What a plan will run and need, known before it runs. */
export interface PlanReport {
  readonly kernels: number;
  /** Distinct shaders among them: what is compiled, unless another plan did. */
  readonly pipelines: number;
  /**
   * Bytes that the plan allocates while it runs: temporaries, packed gradients, results that are kept. Leaves
   * (parameters, moments, caches) are there before and not counted.
   */
  readonly peakBytes: number;
  /** Bytes that are alive at once at least: no plan in this order of kernels needs less. */
  readonly lowerBound: number;
  /** Arithmetic that kernels report, and bytes of all that they bind. */
  readonly flops: number;
  readonly bytes: number;
  /** One line per kernel. */
  readonly text: string;
}

export const report = ({ kernels, peakBytes, lowerBound }: CompiledGraph): PlanReport => ({
  kernels: kernels.length,
  pipelines: new Set(kernels.map((k) => k.code)).size,
  peakBytes,
  lowerBound,
  flops: kernels.reduce((sum, k) => sum + (k.flops ?? 0), 0),
  bytes: kernels.reduce((sum, k) => sum + k.at.reduce((own, at) => own + (at?.bytes ?? 0), 0), 0),
  text: listing(kernels),
});

/** One line per kernel: number, label, the shape it writes, workgroups, and the user's line if it is known. */
export const listing = (kernels: readonly PlacedKernel[]): string =>
  kernels
    .map(({ label, root, grid }, i) => {
      const line = `${String(i).padStart(4)}  ${label.padEnd(40)} [${root.shape.join(",")}] ${root.dtype}  ${grid.join("x")} workgroups`;
      return root.site ? `${line}  ${root.site}` : line;
    })
    .join("\n");
