import { kernelSource } from "../../kernels/index.ts";
import { specialize } from "../compile/codegen/template.ts";
import { lowerContext } from "../compile/lower/context.ts";
import type { DeviceInfo } from "../graph/device-info.ts";
import { byteSize } from "../graph/dtype.ts";
import type { BufferRef, KernelCall } from "../graph/kernel-call.ts";
import { Node } from "../graph/node.ts";
import { numel } from "../graph/shape.ts";
import { loweringOf } from "../lowering/index.ts";
import { Tuner } from "../runtime/tuner/tuner.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** One dispatch of a kernel file, before anything is fused into it. */
export interface KernelReport {
  /** File name without `.wgsl`. */
  readonly kernel: string;
  /** WGSL with its parameters. */
  readonly code: string;
  /** Workgroups per dim. */
  readonly grid: readonly [number, number, number];
  /** Arithmetic of the dispatch, if its lowering reports it. */
  readonly flops?: number;
  /** Bytes of the buffers that it binds, each counted once. */
  readonly bytes: number;
  /** Elements of the largest tensor among the op's inputs and its result. */
  readonly elements: number;
}

/**
 * The kernel files that the graph of `tensors` needs on an adapter with these facts, inputs first. Runs nothing and needs no GPU:
 * shows what the library would do on an adapter that is not here. Elementwise work and reductions, which have no kernel file,
 * are left out, and so is everything already computed.
 * @param info facts of the adapter; `init` returns those of the open one
 * @example
 * const info = { ...(await init()), kind: "discrete", subgroupSize: 32 };
 * for (const { kernel, flops, bytes } of kernelsOf([x.matmul(w)], info)) console.log(kernel, flops / bytes);
 */
export function kernelsOf(tensors: readonly Tensor[], info: DeviceInfo): KernelReport[] {
  const seen = new Set<Node>();
  const reports: KernelReport[] = [];
  const walk = (node: Node): void => {
    if (seen.has(node)) return;
    seen.add(node);
    node.src.forEach(walk);
    const lower = node.op.kind === "kernel" ? loweringOf(node.op.name) : undefined;
    const calls = lower?.(node, lowerContext(node, { info, tuner: new Tuner() })) ?? [];
    reports.push(...calls.map((call) => reportOf(node, call)));
  };
  for (const { node } of tensors) walk(node);
  return reports;
}

function reportOf(node: Node, { kernel, params, reads, grid, flops, bind }: KernelCall): KernelReport {
  return {
    kernel,
    code: specialize(kernelSource(kernel), { params, ...reads }),
    grid,
    flops,
    bytes: bytesOf(bind),
    elements: Math.max(...[node, ...node.src].map((n) => numel(n.shape))),
  };
}

function bytesOf(bind: readonly BufferRef[]): number {
  const each = new Map<unknown, number>();
  for (const ref of bind) {
    if ("temp" in ref) each.set(ref, ref.bytes);
    else if (ref instanceof Node) each.set(ref, byteSize(ref.dtype, numel(ref.shape)));
    else {
      const spec = ref.node.outputs?.[ref.output] ?? ref.node;
      each.set(`${ref.node.id} ${ref.output}`, byteSize(spec.dtype, numel(spec.shape)));
    }
  }
  return [...each.values()].reduce((a, b) => a + b, 0);
}

/**
 * A kernel file with these values in the place of its constants and aliases marked `// param`.
 * @throws unless every name is a parameter of the file and every value fits its type.
 */
export const specializeKernel = (code: string, parameters: Readonly<Record<string, number | string>> = {}): string =>
  specialize(code, { params: parameters });
