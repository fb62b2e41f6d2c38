import { type CompileOptions, compile } from "../compile/compile.ts";
import type { Graph } from "../graph/collect.ts";
import { log } from "../graph/debug.ts";
import { loweringVersion } from "../lowering/index.ts";
import type { Device } from "./device.ts";
import { flushed } from "./flush-queue.ts";
import { makePlan, type Plan } from "./plan.ts";
import { begin } from "./trace.ts";
import { withMeasurements } from "./tuner/measure.ts";

const MAX_PLANS = 256;

/** Plans by graph key. The least recently used plan is dropped first. */
export class PlanCache {
  private plans = new Map<string, Promise<Plan>>();
  private lowerings = loweringVersion();

  get size(): number {
    return this.plans.size;
  }

  /** The plan of a graph: a known one, or a new one. */
  async get(graph: Graph, device: Device, options: CompileOptions): Promise<Plan> {
    if (this.lowerings !== loweringVersion()) this.forgetAll();
    const known = this.plans.get(graph.key);
    if (known) {
      this.plans.delete(graph.key); // move to the recent end
      this.plans.set(graph.key, known);
      return known;
    }
    const began = performance.now();
    const before = device.pipelines.size;
    const compiled = begin("compile");
    const compiling = compileFor(graph, device, options);
    this.plans.set(graph.key, compiling);
    this.dropOldest();
    try {
      const plan = await compiling;
      compiled();
      log(
        1,
        `plan ${this.size}: ${graph.order.length} nodes, ${plan.steps.length} kernels, ${device.pipelines.size - before} new pipelines, ${Math.round(plan.peakBytes / 1024)} KiB, ${Math.round(performance.now() - began)} ms`,
      );
      log(3, plan.text);
      return plan;
    } catch (error) {
      this.plans.delete(graph.key);
      throw error;
    }
  }

  /** Drops a plan that failed: some of its buffers or bind groups may be invalid. */
  drop(graph: Graph, plan: Plan): void {
    this.plans.delete(graph.key);
    plan.dispose();
  }

  /** Forgets all plans: everything is compiled again from now on. */
  async clear(): Promise<void> {
    await flushed();
    await this.forgetAll();
  }

  private async forgetAll(): Promise<void> {
    const old = [...this.plans.values()];
    this.plans = new Map();
    this.lowerings = loweringVersion();
    for (const plan of old) (await plan.catch(() => undefined))?.dispose();
  }

  private dropOldest(): void {
    if (this.plans.size <= MAX_PLANS) return;
    const [key, plan] = this.plans.entries().next().value!;
    this.plans.delete(key);
    plan.then((p) => p.dispose()).catch(() => undefined); // a plan that failed has nothing to free
  }
}

async function compileFor(graph: Graph, device: Device, options: CompileOptions): Promise<Plan> {
  return makePlan(await withMeasurements(device, () => compile(graph, device, options)), device);
}
