import type { DeviceInfo } from "../../graph/device-info.ts";
import type { KernelCall } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import type { ExprScope } from "../expression/expr.ts";
import { makeTemp } from "../lower/context.ts";
import type { Group, Schedule } from "../schedule/schedule.ts";
import { elementwiseKernels } from "./elementwise.ts";
import { templateKernel } from "./fused-template.ts";
import type { Kernel } from "./kernel.ts";
import { reduceKernels } from "./reduce.ts";

/** The kernels of a group: generated WGSL for elementwise work and reductions, templates for kernel nodes. */
export function kernelsOf(
  { root, core, prologues }: Group,
  plan: Schedule,
  calls: ReadonlyMap<Node, readonly KernelCall[]>,
  device: DeviceInfo,
): Kernel[] {
  const scope = scopeOf(plan);
  if (root.op.arena) return []; // the kernels of its sources write into it
  if (!core) return elementwiseKernels(root, scope, device);
  if (core.op.kind === "reduce") return reduceKernels(core, root, scope, { device, temp: makeTemp });
  return calls.get(core)!.map((call) => templateKernel(call, { root, core, prologues }, scope, device));
}

/** The kernel of one call of a node, with the work that the schedule fuses into it. */
export function kernelOfCall(core: Node, call: KernelCall, plan: Schedule, device: DeviceInfo): Kernel {
  const group = plan.groups.find((g) => g.core === core);
  return templateKernel(call, { root: core, ...group, core }, scopeOf(plan), device);
}

const scopeOf = (plan: Schedule): ExprScope => ({ isBuffer: (n) => plan.buffers.has(n) });
