import { type CompileOptions, compile, type PlanReport, report, tuned } from "../compile/compile.ts";
import { layOutWithin } from "../compile/schedule/recompute.ts";
import { collect, type Graph, type Root } from "../graph/collect.ts";
import { byteSize, type HostArray } from "../graph/dtype.ts";
import { Node } from "../graph/node.ts";
import { defineOp } from "../graph/op.ts";
import { numel } from "../graph/shape.ts";
import { packOffsets } from "../ops/pack.ts";
import { evaluate } from "../reference/interpreter.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ADAPTER_ROUTES, type Device, type DeviceInfo, type InitOptions, openDevice } from "./device.ts";
import { collectGarbage } from "./garbage.ts";
import type { Plan } from "./plan.ts";
import { toWords } from "./plan.ts";
import { log, profile } from "./profile.ts";
import { begin, beginFlush, traceProcess } from "./trace.ts";

/** Identity: the value that a tensor takes in place at the next flush. */
const assignOp = defineOp({ name: "assign", kind: "leaf", vjp: () => [null], reference: ([x]) => x });

const MAX_PLANS = 256;
const MAX_PENDING = 2048; // 0-d values that wait for a flush
const MAX_IN_FLIGHT = 3; // submits the host may run ahead of the GPU
const PROMOTE_AFTER = 2; // uses after which a host value moves to the GPU for good

let device: Device | undefined;
let started: Promise<void> | undefined;
let options: CompileOptions = { fuse: true };
let plans = new Map<string, Promise<Plan>>();
let tail: Promise<unknown> = Promise.resolve();
let inFlight: Promise<unknown>[] = [];
let hostUses = new WeakMap<Node, number>();

/** In-place updates that the next flush carries out, oldest first. */
const pendingAssigns = new Map<Tensor, { leaf: Node; node: Node }>();
/** 0-d results since the last flush: always computed by it, so a loss can be read after `optimizer.step()`. */
const pendingScalars = new Set<Node>();

export interface EngineOptions extends InitOptions {
  /**
   * Off: one kernel per op, for tests and for finding faults. "always": also where a software adapter would compile
   * longer than the work saves in 100 runs.
   */
  fuse?: boolean | "always";
  /**
   * Most bytes that a plan may need beside parameters and optimiser state (`plan().peakBytes`). A training step that
   * needs more computes activations again in its backward pass; one that cannot fit is an error that names its peak.
   */
  memoryBudget?: number;
}

/**
 * Opens a device: `options.device`, else the best WebGPU adapter; without one the f64 interpreter on the CPU, with a
 * warning. Calling it is optional unless options are needed: the first read does it. A second call starts afresh.
 */
export async function init(init: EngineOptions = {}): Promise<DeviceInfo | undefined> {
  await tail.catch(() => undefined);
  pendingAssigns.clear(); // what waited for the old device has no use any more
  pendingScalars.clear();
  started = start(init);
  await started;
  return device?.info;
}

async function start(init: EngineOptions): Promise<void> {
  plans = new Map();
  hostUses = new WeakMap();
  inFlight = [];
  options = { fuse: init.fuse ?? true, memoryBudget: init.memoryBudget };
  device = init.backend === "reference" ? undefined : await openDevice(init);
  await traceProcess();
  if (device)
    log(
      1,
      `device: ${device.info.description} (${device.info.kind}, subgroups of ${device.info.subgroupSize || "no fixed size"})`,
    );
  else if (init.backend === "webgpu") throw new Error(ADAPTER_ROUTES);
  else if (init.backend !== "reference")
    console.warn(`${ADAPTER_ROUTES}\nUsing the f64 reference interpreter on the CPU: right, but slow.`);
}

/** Resolves once a device is open (or found missing). */
export const ready = (): Promise<void> => (started ??= start({}));

/** The open device, or undefined on the reference backend. */
export const currentDevice = (): Device | undefined => device;

/** Called for every 0-d result of an op that a user can hold. */
export function notePendingScalar(node: Node): void {
  pendingScalars.add(node);
  // A loop that never reads anything must not grow without bound. What fails here fails again when it is read.
  if (pendingScalars.size >= MAX_PENDING) flush([]).catch(() => undefined);
}

/**
 * Makes `target` (a parameter, moment or cache: a leaf) take `value` in place at the next flush.
 * Reads of `target` from now on see the new value; graphs built before see the old one.
 */
export function assign(target: Tensor, value: Tensor): void {
  const leaf = pendingAssigns.get(target)?.leaf ?? target.node;
  const node = new Node(assignOp, [value.node], {}, leaf.shape, leaf.dtype);
  node.requiresGrad = target.requiresGrad;
  pendingAssigns.set(target, { leaf, node });
  target.node = node;
}

/** Computes `keep` (which then own GPU buffers), all pending assigns and all pending 0-d values. */
export const flush = (keep: readonly Node[]): Promise<void> => run(keep, []);

/** The values of `node`, row-major, after computing what is pending. */
export async function read(node: Node): Promise<HostArray> {
  if (!node.host && !node.reading) await run([], [node]);
  await node.reading;
  const data = node.host!;
  if (!(data instanceof Float64Array)) return data;
  if (node.dtype === "i32") return Int32Array.from(data);
  return node.dtype === "u32" || node.dtype === "bool" ? Uint32Array.from(data) : Float32Array.from(data);
}

/** Waits until the GPU has done all submitted work. */
export async function synchronize(): Promise<void> {
  await tail;
  await device?.idle();
}

/** Flushes run one after another, each on what was pending when it was asked for. */
function run(keep: readonly Node[], reads: readonly Node[]): Promise<void> {
  const assigns = [...pendingAssigns.values()];
  const scalars = [...pendingScalars];
  pendingAssigns.clear();
  pendingScalars.clear();
  const result = tail.then(async () => {
    await ready();
    const flushed = beginFlush();
    try {
      try {
        await compute(keep, [...reads, ...scalars], assigns);
      } catch (error) {
        // A 0-d value that nobody asked for yet must not fail what was asked for. It reports its own error when it is read.
        const asked = new Set([...keep, ...reads]);
        if (device?.lost !== undefined || assigns.length || asked.size === 0 || scalars.every((n) => asked.has(n)))
          throw error;
        await compute(keep, reads, assigns);
      }
    } catch (error) {
      for (const { leaf, node } of assigns) if (!node.realized) undo(leaf, node);
      throw error;
    } finally {
      flushed();
    }
    for (const { leaf, node } of assigns) settle(leaf, node);
  });
  tail = result.catch(() => undefined); // a failed flush must not fail later ones
  return result;
}

async function compute(
  keep: readonly Node[],
  reads: readonly Node[],
  assigns: readonly { leaf: Node; node: Node }[],
): Promise<void> {
  if (device) return runOnDevice(device, keep, reads, assigns);
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

async function runOnDevice(
  device: Device,
  keep: readonly Node[],
  reads: readonly Node[],
  assigns: readonly { leaf: Node; node: Node }[],
): Promise<void> {
  device.check();
  promotions.length = 0; // of a flush that failed before it awaited them
  for (const { leaf } of assigns) if (!leaf.realized) await execute(device, [{ node: leaf, mode: "keep" }]);
  for (const { leaf } of assigns) promote(device, leaf);
  const roots: Root[] = [
    ...assigns.map(({ leaf, node }): Root => ({ node, mode: "assign", target: leaf })),
    ...[...new Set(keep)].filter((n) => !n.storage).map((node): Root => ({ node, mode: "keep" })),
    ...[...new Set(reads)].filter((n) => !n.host && !n.reading).map((node): Root => ({ node, mode: "read" })),
  ];
  await execute(device, roots);
  for (const { leaf, node } of assigns) node.storage = leaf.storage;
}

async function execute(device: Device, roots: Root[]): Promise<void> {
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
  await Promise.all(promotions.splice(0));
  if (device.pool.wantsCollection()) await collectGarbage();
  const plan = await planFor(device, graph);
  if (inFlight.length >= MAX_IN_FLIGHT) await inFlight.shift();
  try {
    await profile(device, plan, graph);
  } catch (error) {
    plans.delete(graph.key); // some of its buffers or bind groups may be invalid
    plan.dispose();
    throw error;
  }
  inFlight.push(device.idle().catch(() => undefined));
  device.check();
}

async function planFor(device: Device, graph: Graph): Promise<Plan> {
  const known = plans.get(graph.key);
  if (known) {
    plans.delete(graph.key); // back to the young end
    plans.set(graph.key, known);
    return known;
  }
  const began = performance.now();
  const pipelines = device.pipelines.size;
  const target = device;
  const compiled = begin("compile");
  const made = (async () => compile(await tuned(target, () => layOutWithin(graph, target, options)), target))();
  plans.set(graph.key, made);
  if (plans.size > MAX_PLANS) {
    const [oldest, plan] = plans.entries().next().value!;
    plans.delete(oldest);
    void plan.then(
      (p) => p.dispose(),
      () => undefined,
    );
  }
  try {
    const plan = await made;
    compiled();
    log(
      1,
      `plan ${plans.size}: ${graph.order.length} nodes, ${plan.steps.length} kernels, ${device.pipelines.size - pipelines} new pipelines, ${kib(plan.peakBytes)} KiB, ${Math.round(performance.now() - began)} ms`,
    );
    log(3, plan.text);
    return plan;
  } catch (error) {
    plans.delete(graph.key);
    throw error;
  }
}

/** A host value used again and again (or trained) moves to a buffer of its own. */
function countUse(device: Device, leaf: Node): void {
  const uses = (hostUses.get(leaf) ?? 0) + 1;
  hostUses.set(leaf, uses);
  if (leaf.requiresGrad || uses >= PROMOTE_AFTER) promote(device, leaf);
}

function promote(device: Device, node: Node): void {
  if (node.storage || !node.host) return;
  const promoted = place(device, node, toWords(node));
  promoted.catch(() => undefined); // the flush that awaits it reports it
  promotions.push(promoted);
}
/** Values on their way to buffers of their own; awaited by the flush that sent them. */
const promotions: Promise<void>[] = [];

/** Gives a node a buffer with these words at once; withdraws it if the GPU refuses. */
async function place(device: Device, node: Node, words: Uint32Array): Promise<void> {
  try {
    await device.guard(() => {
      node.storage = device.pool.own(byteSize(node.dtype, numel(node.shape)));
      if (allZero(words)) clear(device, node.storage.buffer);
      else device.gpu.queue.writeBuffer(node.storage.buffer, 0, words as Uint32Array<ArrayBuffer>);
    });
  } catch (error) {
    node.storage = undefined;
    throw error;
  }
}

/** Zeros, such as an optimizer's first moments, need no upload. */
function clear(device: Device, buffer: GPUBuffer): void {
  const encoder = device.gpu.createCommandEncoder();
  encoder.clearBuffer(buffer);
  device.gpu.queue.submit([encoder.finish()]);
}

function allZero(words: Uint32Array): boolean {
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}

const MAX_UPLOADED = 1 << 26; // bytes that wait for the GPU to take them
let uploaded = 0;

/** Fills a leaf with the words of its buffer (f16: two halves a word); the host keeps no copy. False without a GPU. */
export async function upload(leaf: Node, words: Uint32Array): Promise<boolean> {
  await (started ??= start({}));
  if (!device) return false;
  await place(device, leaf, words);
  uploaded += words.byteLength;
  if (uploaded > MAX_UPLOADED) {
    uploaded = 0;
    device.gpu.queue.submit([]);
    await device.idle();
    device.check();
  }
  return true;
}

/** Gives a computed value's GPU memory back at once (`using`, `[Symbol.dispose]`). Never needed: collection does it too. */
export function release(node: Node): void {
  if (!device || !node.storage || node.storage.shared || node.op.kind === "leaf") return;
  device.pool.disown(node.storage);
  node.storage = undefined;
  node.stale = "a released tensor was used: it gave up its memory when its `using` block ended";
}

/**
 * What computing `tensors` would run and need, before anything runs: kernels, pipelines, bytes. Compiles nothing.
 * Undefined on the reference backend, which has no plans.
 */
export const plan = (...tensors: readonly Tensor[]): Promise<PlanReport | undefined> =>
  planRoots(() => tensors.filter((t) => !t.node.realized).map(({ node }): Root => ({ node, mode: "keep" })));

/** As `plan`, for a flush of what is pending after `build`; its updates in place are withdrawn again. */
export function planUpdates(build: () => void): Promise<PlanReport | undefined> {
  const before = new Map(pendingAssigns);
  const scalars = new Set(pendingScalars);
  let roots: Root[] = [];
  try {
    build();
    roots = [
      ...[...pendingAssigns.values()].map(({ leaf, node }): Root => ({ node, mode: "assign", target: leaf })),
      ...[...pendingScalars].filter((n) => !n.host).map((node): Root => ({ node, mode: "read" })),
    ];
  } finally {
    for (const [target, { leaf }] of pendingAssigns) target.node = before.get(target)?.node ?? leaf;
    pendingAssigns.clear();
    for (const [target, pending] of before) pendingAssigns.set(target, pending);
    pendingScalars.clear();
    for (const node of scalars) pendingScalars.add(node);
  }
  return planRoots(() => roots);
}

async function planRoots(roots: () => Root[]): Promise<PlanReport | undefined> {
  await ready();
  return device && report(layOutWithin(collect(roots()), device, options));
}

/**
 * The kernels that computing `tensors` would run, one line each: what was fused (`matmul→add·gelu`), the shape written
 * and the workgroups; then how many pipelines and bytes. Compiles and computes nothing.
 */
export async function explain(...tensors: readonly Tensor[]): Promise<string> {
  const planned = await plan(...tensors);
  if (!planned) return "reference backend: nodes are interpreted one by one";
  const { kernels, pipelines, peakBytes, lowerBound, text } = planned;
  if (!kernels) return "already computed";
  return `${text}\n${kernels} kernels, ${pipelines} pipelines, ${kib(peakBytes)} KiB (at least ${kib(lowerBound)} are alive at once)`;
}

const kib = (bytes: number): number => Math.round(bytes / 1024);

/** Moves tensors (parameters of an optimiser) into one buffer, so that one dispatch can update them all. */
export async function packParameters(tensors: readonly Tensor[]): Promise<void> {
  const nodes = tensors.map((t) => t.node); // a tensor that is assigned to meanwhile has another
  await run(
    nodes.filter((n) => !n.storage),
    [],
  );
  const { offsets, total } = packOffsets(tensors.map((t) => t.numel));
  const first = nodes[0].storage?.buffer; // already packed for an earlier optimiser of the same parameters?
  if (
    !device ||
    nodes.every(({ storage }, i) => storage?.shared && storage.buffer === first && storage.offset === offsets[i] * 4)
  )
    return;
  const { gpu, pool } = device;
  const old = nodes.map((n) => n.storage!);
  try {
    await device.guard(() => {
      const buffer = pool.permanent(total * 4);
      const encoder = gpu.createCommandEncoder();
      for (const [i, n] of nodes.entries()) {
        const bytes = byteSize("f32", numel(n.shape));
        encoder.copyBufferToBuffer(old[i].buffer, old[i].offset, buffer, offsets[i] * 4, bytes);
        n.storage = { buffer, offset: offsets[i] * 4, bytes, shared: true };
      }
      gpu.queue.submit([encoder.finish()]);
    });
  } catch (error) {
    for (const [i, n] of nodes.entries()) n.storage = old[i];
    throw error;
  }
  for (const [i, n] of nodes.entries()) {
    n.host = undefined;
    if (!old[i].shared) pool.disown(old[i]);
  }
}

/** Compiles everything anew from now on. */
export async function forgetPlans(): Promise<void> {
  await synchronize();
  const old = [...plans.values()];
  plans = new Map();
  for (const plan of old) (await plan).dispose();
}

/** Fusion on or off from now on, for tests and measurements. */
export async function setFusion(fuse: boolean): Promise<void> {
  await forgetPlans();
  options = { ...options, fuse };
}

/** Changes `init`'s memoryBudget for plans made from now on; returns the one before. */
export async function setMemoryBudget(memoryBudget: number | undefined): Promise<number | undefined> {
  await ready();
  const before = options.memoryBudget;
  if (before !== memoryBudget) await forgetPlans();
  options = { ...options, memoryBudget };
  return before;
}

/** Bytes and buffers alive on the GPU, plans and pipelines in the caches. */
export function memoryStats(): {
  liveBytes: number;
  liveBuffers: number;
  peakBytes: number;
  plans: number;
  pipelines: number;
} {
  const pool = device?.pool;
  return {
    liveBytes: pool?.liveBytes ?? 0,
    liveBuffers: pool?.liveBuffers ?? 0,
    peakBytes: pool?.peakBytes ?? 0,
    plans: plans.size,
    pipelines: device?.pipelines.size ?? 0,
  };
}
