import type { CompileOptions } from "../compile/compile.ts";
import { log } from "../graph/debug.ts";
import { setOpenDevice } from "../graph/device-of.ts";
import { ADAPTER_ROUTES, type Device, type InitOptions, openDevice } from "./device.ts";
import { PlanCache } from "./plan-cache.ts";
import { traceProcess } from "./trace.ts";

export interface EngineOptions extends InitOptions {
  /**
   * Default true. false: one kernel per op, for tests and to find faults. "always": also fuse if a software adapter compiles
   * the shader for longer than the fusion saves in 50 runs.
   */
  fuse?: boolean | "always";
  /**
   * Default false: indices that the device computes and that are out of range select 0, and add or write nothing. true: the
   * flush that computes them throws, with op, index and position. Slower: every op with such indices reads them back.
   */
  checkIndices?: boolean;
  /**
   * Most bytes that a plan may allocate, without parameters and optimizer state (`plan().peakBytes`). A training step that
   * needs more recomputes activations in its backward pass. If that does not suffice, an error names the bytes needed.
   */
  memoryBudget?: number;
}

/** An open device with the plans that were compiled for it. Without a device, the reference interpreter computes. */
export interface Session {
  readonly device?: Device;
  readonly plans: PlanCache;
  options: CompileOptions;
}

let session: Session | undefined;
let opening: Promise<Session> | undefined;

/** The open session, after opening one with default options if there is none. */
export const openSession = (): Promise<Session> => (opening ??= start({}));

/** The open session, if there is one. */
export const currentSession = (): Session | undefined => session;

/** The open device; undefined on the reference backend, and before anything was opened. */
export const currentDevice = (): Device | undefined => session?.device;

/** Opens a session in place of the one before. */
export const restart = (options: EngineOptions): Promise<Session> => (opening = start(options));

async function start(init: EngineOptions): Promise<Session> {
  const before = session?.device;
  session = undefined;
  setOpenDevice(undefined);
  await before?.close();
  const device = init.backend === "reference" ? undefined : await openDevice(init);
  await traceProcess();
  if (device) {
    const { description, kind, subgroupSize } = device.info;
    log(1, `device: ${description} (${kind}, subgroups of ${subgroupSize || "no fixed size"})`);
  } else if (init.backend === "webgpu") throw new Error(ADAPTER_ROUTES);
  else if (init.backend !== "reference")
    console.warn(`${ADAPTER_ROUTES}\nUsing the f64 reference interpreter on the CPU: right, but slow.`);
  const options = { fuse: init.fuse ?? true, memoryBudget: init.memoryBudget };
  setOpenDevice(device?.pool);
  return (session = { device, plans: new PlanCache(), options });
}

/** Fusion on or off from now on, for tests and measurements. */
export async function setFusion(fuse: boolean): Promise<void> {
  const { plans, options } = await openSession();
  await plans.clear();
  session!.options = { ...options, fuse };
}

/** Sets the `memoryBudget` of `init`, in bytes, for future plans. Undefined removes it. Returns the budget before. */
export async function setMemoryBudget(memoryBudget: number | undefined): Promise<number | undefined> {
  const open = await openSession();
  const before = open.options.memoryBudget;
  if (before !== memoryBudget) await open.plans.clear();
  open.options = { ...open.options, memoryBudget };
  return before;
}
