import { collect, type Graph, type Root } from "../graph/collect.ts";
import type { DeviceInfo } from "../graph/device-info.ts";
import type { HostArray } from "../graph/dtype.ts";
import { Node } from "../graph/node.ts";
import { connectFlush, type Handle, pendingAssigns, pendingScalars } from "../graph/pending.ts";
import { assignOp } from "../graph/structural.ts";
import { evaluate } from "../reference/interpreter.ts";
import type { Device } from "./device.ts";
import { enqueue, flushed } from "./flush-queue.ts";
import { collectGarbage } from "./garbage.ts";
import { narrowed } from "./host-values.ts";
import type { Plan } from "./plan.ts";
import { replay, runTimed, timesKernels, traceSubmit } from "./profile.ts";
import { currentDevice, type EngineOptions, openSession, restart, type Session } from "./session.ts";
import { begin, beginFlush, tracing } from "./trace.ts";
import { countUse, forgetPromotions, promote, promoted } from "./upload.ts";

const MAX_IN_FLIGHT = 3; // submits that the host may run ahead of the GPU

let inFlight: Promise<unknown>[] = [];

/**
 * Opens a device: `options.device`, else the best WebGPU adapter. Without an adapter, the f64 interpreter computes on the CPU,
 * after a warning. Call it only to set options: the first read opens a device with the defaults. A second call opens a new
 * device; values computed on the old one are lost.
 * @returns facts of the adapter; undefined for the interpreter
 * @throws if there is no adapter and `options.backend` is "webgpu"
 * @example await init({ backend: "webgpu", memoryBudget: 2 ** 30 })
 */
export async function init(options: EngineOptions = {}): Promise<DeviceInfo | undefined> {
  await flushed();
  pendingAssigns.clear(); // these waited for the device before
  pendingScalars.clear();
  inFlight = [];
  return (await restart(options)).device?.info;
}

/**
 * Gives `target` (a leaf: parameter, moment or cache) the value of a node in place, at the next flush.
 * Graphs built from now on read the new value; graphs built before read the old one.
 */
export function assignNode(target: Handle, value: Node, requiresGrad: boolean): void {
  const leaf = pendingAssigns.get(target)?.leaf ?? target.node;
  const node = new Node(assignOp, [value], {}, leaf.shape, leaf.dtype);
  node.requiresGrad = requiresGrad;
  pendingAssigns.set(target, { leaf, node });
  target.node = node;
}

/** Computes `keep` (which then own GPU buffers), all pending assigns and all pending 0-d values. */
export const flushNodes = (keep: readonly Node[]): Promise<void> => run(keep, []);

/** The values of `node`, row-major, after computing what is pending. */
export async function read(node: Node): Promise<HostArray> {
  if (!node.host && !node.reading) await run([], [node]);
  await node.reading;
  return narrowed(node);
}

/** Resolves once the GPU has done all submitted work. For measurements: reading a value waits by itself. */
export async function synchronize(): Promise<void> {
  await flushed();
  await currentDevice()?.idle();
}

/** Frees the GPU memory of a computed value at once (`using`, `[Symbol.dispose]`). Never needed: collection does it too. */
export function release(node: Node): void {
  const device = currentDevice();
  if (!device || !node.storage || node.storage.shared || node.op.kind === "leaf" || node.op.kind === "assign") return;
  device.pool.disown(node.storage);
  node.storage = undefined;
  node.stale = "a released tensor was used: it gave up its memory when its `using` block ended";
}

connectFlush(() => flushNodes([]));

interface Assign {
  readonly leaf: Node;
  readonly node: Node;
}

/** Flushes run one after another, each on what was pending when it was asked for. */
function run(keep: readonly Node[], reads: readonly Node[]): Promise<void> {
  const assigns = [...pendingAssigns.values()];
  const scalars = [...pendingScalars];
  pendingAssigns.clear();
  pendingScalars.clear();
  return enqueue(async () => {
    const session = await openSession();
    const done = beginFlush();
    try {
      await computeAsked(session, keep, reads, scalars, assigns);
    } catch (error) {
      for (const { leaf, node } of assigns) if (!node.realized) undo(leaf, node);
      throw error;
    } finally {
      done();
    }
    for (const { leaf, node } of assigns) settle(leaf, node);
  });
}

/** Computes everything. A 0-d value that nobody asked for yet must not fail the rest: it reports its own error when it is read. */
async function computeAsked(
  session: Session,
  keep: readonly Node[],
  reads: readonly Node[],
  scalars: readonly Node[],
  assigns: readonly Assign[],
): Promise<void> {
  try {
    await compute(session, keep, [...reads, ...scalars], assigns);
  } catch (error) {
    const asked = new Set([...keep, ...reads]);
    const lost = session.device?.lost !== undefined;
    if (lost || assigns.length || asked.size === 0 || scalars.every((n) => asked.has(n))) throw error;
    await compute(session, keep, reads, assigns);
  }
}

async function compute(
  session: Session,
  keep: readonly Node[],
  reads: readonly Node[],
  assigns: readonly Assign[],
): Promise<void> {
  if (session.device) return computeOnDevice(session.device, session, keep, reads, assigns);
  evaluate([...new Set([...keep, ...reads, ...assigns.map((a) => a.node)])].filter((n) => !n.realized));
}

/** A failed flush leaves every in-place value as it was. */
function undo(leaf: Node, node: Node): void {
  node.storage = leaf.storage;
  node.host = leaf.host;
  node.src = [];
}

function settle(leaf: Node, node: Node): void {
  node.src = [];
  if (leaf === node) return;
  leaf.storage = undefined;
  leaf.host = undefined;
  leaf.stale =
    "a value was read after it had been overwritten in place (by optimizer.step() or a cache): await its data(), or keep() it, before the update";
}

async function computeOnDevice(
  device: Device,
  session: Session,
  keep: readonly Node[],
  reads: readonly Node[],
  assigns: readonly Assign[],
): Promise<void> {
  device.check();
  forgetPromotions();
  for (const { leaf } of assigns) if (!leaf.realized) await execute(device, session, [{ node: leaf, mode: "keep" }]);
  for (const { leaf } of assigns) promote(device, leaf);
  const roots: Root[] = [
    ...assigns.map(({ leaf, node }): Root => ({ node, mode: "assign", target: leaf })),
    ...[...new Set(keep)].filter((n) => !n.storage).map((node): Root => ({ node, mode: "keep" })),
    ...[...new Set(reads)].filter((n) => !n.host && !n.reading).map((node): Root => ({ node, mode: "read" })),
  ];
  await execute(device, session, roots);
  for (const { leaf, node } of assigns) node.storage = leaf.storage;
}

async function execute(device: Device, session: Session, roots: readonly Root[]): Promise<void> {
  for (const r of roots) if (r.mode === "keep" && r.node.host) promote(device, r.node);
  const wanted = roots.filter((r) => !(r.mode === "keep" && r.node.storage));
  if (wanted.length === 0) return;
  const hashed = begin("hash");
  let graph = collect(wanted);
  hashed({ nodes: graph.order.length });
  const arriving = graph.order.filter((n) => n.reading);
  if (arriving.length) {
    await Promise.all(arriving.map((n) => n.reading));
    graph = collect(wanted);
  }
  let moved = false;
  graph.leaves.forEach((leaf, i) => {
    if (leaf.storage) return;
    countUse(device, leaf);
    moved ||= graph.fed[i] && leaf.storage !== undefined;
  });
  if (moved) graph = collect(wanted);
  await promoted();
  if (device.pool.wantsCollection()) await collectGarbage();
  const plan = await session.plans.get(graph, device, session.options);
  if (inFlight.length >= MAX_IN_FLIGHT) await inFlight.shift();
  try {
    await (timesKernels(device, plan) ? runTimed(device, plan, graph) : runPlan(device, plan, graph));
  } catch (error) {
    session.plans.drop(graph, plan);
    throw error;
  }
  inFlight.push(device.idle().catch(() => undefined));
  device.check();
}

async function runPlan(device: Device, plan: Plan, graph: Graph): Promise<void> {
  const encoded = begin("encode");
  const running = replay(plan, graph);
  encoded({ kernels: plan.steps.length });
  await running;
  if (tracing()) await traceSubmit(device, plan);
}
