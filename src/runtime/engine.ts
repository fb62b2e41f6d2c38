import { detectsAnomaly } from "../graph/anomaly.ts";
import { collect, type Graph, type Root } from "../graph/collect.ts";
import type { DeviceInfo } from "../graph/device-info.ts";
import { checkDevice } from "../graph/device-of.ts";
import type { HostArray } from "../graph/dtype.ts";
import { Node } from "../graph/node.ts";
import {
  connectFlush,
  type Handle,
  pendingAssigns,
  pendingChecks,
  pendingScalars,
  setIndexChecks,
} from "../graph/pending.ts";
import { sameShape, show } from "../graph/shape.ts";
import { assignOp } from "../graph/structural.ts";
import { evaluate } from "../reference/interpreter.ts";
import { findNaN } from "./anomaly.ts";
import type { Device } from "./device.ts";
import { enqueue, flushed } from "./flush-queue.ts";
import { collectGarbage } from "./garbage.ts";
import { copyOf } from "./host-values.ts";
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
  for (const [target, { leaf, node }] of pendingAssigns) undo({ target, leaf, node }); // they waited for the device before
  pendingAssigns.clear();
  pendingScalars.clear();
  pendingChecks.clear();
  setIndexChecks(options.checkIndices === true);
  inFlight = [];
  return (await restart(options)).device?.info;
}

/**
 * Gives `target` (a leaf: parameter, moment or cache) the value of a node in place, at the next flush.
 * Graphs built from now on read the new value; graphs built before read the old one.
 * @throws unless the value has the shape and dtype of the target
 */
export function assignNode(target: Handle, value: Node, requiresGrad: boolean): void {
  const leaf = pendingAssigns.get(target)?.leaf ?? target.node;
  if (!sameShape(value.shape, leaf.shape) || value.dtype !== leaf.dtype)
    throw new Error(
      `assign: a value ${value.dtype} ${show(value.shape)} for a target ${leaf.dtype} ${show(leaf.shape)}: shape and dtype must be equal; use expand, reshape or to()`,
    );
  checkDevice("assign", [leaf, value]);
  const node = new Node(assignOp, [value], {}, leaf.shape, leaf.dtype);
  node.requiresGrad = requiresGrad;
  pendingAssigns.set(target, { leaf, node });
  target.node = node;
}

/** Computes `keep` (which then own GPU buffers), all pending assigns and all pending 0-d values. */
export const flushNodes = async (keep: readonly Node[]): Promise<void> => void (await run(keep, []));

/** As `flushNodes`, then `after`, before any later flush. */
export const flushAndThen = async (keep: readonly Node[], after: (session: Session) => Promise<void>): Promise<void> =>
  void (await run(keep, [], after));

/** The values of `node`, row-major, after computing what is pending: an array of the caller's own. */
export async function read(node: Node): Promise<HostArray> {
  checkDevice("data", [node]);
  if (node.host) return copyOf(node, node.host);
  if (node.reading) return copyOf(node, await node.reading);
  const [values] = await run([], [node]);
  return copyOf(node, await values);
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
  readonly target: Handle;
  readonly leaf: Node;
  readonly node: Node;
}

type Values = HostArray | Float64Array;

/**
 * Flushes run one after another, each on what was pending when it was asked for. Resolves to the values of `reads`, some of
 * which may still be on their way: a later flush may overwrite the nodes in place before they arrive.
 */
function run(
  keep: readonly Node[],
  reads: readonly Node[],
  after?: (session: Session) => Promise<void>,
): Promise<(Values | Promise<Values>)[]> {
  const assigns = [...pendingAssigns].map(([target, assign]): Assign => ({ target, ...assign }));
  const scalars = [...pendingScalars];
  const checks = [...pendingChecks];
  pendingAssigns.clear();
  pendingScalars.clear();
  pendingChecks.clear();
  const watched = detectsAnomaly();
  return enqueue(async () => {
    const session = await openSession();
    const done = beginFlush();
    try {
      if (watched) {
        const roots = [...keep, ...reads, ...scalars, ...assigns.map(({ node }) => node.src[0] ?? node)];
        await findNaN(roots, (nodes) => compute(session, [], nodes, []));
      }
      const checked = checks.map(([node]) => node);
      await computeAsked(session, keep, [...reads, ...checked], scalars, assigns);
    } catch (error) {
      for (const assign of assigns) undo(assign);
      throw error;
    } finally {
      done();
    }
    const values = reads.map((n) => n.host ?? n.reading!);
    for (const { leaf, node } of assigns) settle(leaf, node);
    await after?.(session);
    for (const [node, check] of checks) check(node.host ?? (await node.reading!));
    return values;
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

/**
 * A failed flush leaves every in-place value as it was: the target is its leaf again. Graphs that were built on the new value
 * read the old one, through the node of the assignment.
 */
function undo({ target, leaf, node }: Assign): void {
  if (node.realized) return; // this part of the flush succeeded
  node.src = [leaf];
  if (target.node === node) target.node = leaf;
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
  checkDevice(
    "flush",
    roots.flatMap((r) => (r.target ? [r.node, r.target] : [r.node])),
  );
  const wanted = roots.filter((r) => !(r.mode === "keep" && r.node.storage));
  if (wanted.length === 0) return;
  const hashed = begin("hash");
  let graph = collect(wanted);
  checkDevice("flush", graph.leaves);
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
  if (device.pool.wantsCollection()) {
    await collectGarbage();
    device.pool.trim();
  }
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
