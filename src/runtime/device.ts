import { matrixProbe } from "../compile/codegen/matrix-probe.ts";
import type { DeviceInfo, MatrixUnit } from "../graph/device-info.ts";
import { PipelineCache } from "./pipeline.ts";
import { patiently } from "./polling.ts";
import { Pool } from "./pool.ts";
import { Tuner, tunerFor } from "./tuner/tuner.ts";

export interface InitOptions {
  /** A device of yours. Its features and limits are used as is. */
  device?: GPUDevice;
  /** "reference": the f64 interpreter on the CPU. "webgpu": an error without an adapter. Default: WebGPU, else the interpreter and a warning. */
  backend?: "webgpu" | "reference";
  /** Which of several adapters. Default "high-performance". */
  powerPreference?: GPUPowerPreference;
  /** Ignores features of the device, to test kernels for devices without them. */
  disable?: readonly ("subgroups" | "shader-f16" | "timestamp-query" | "chromium-experimental-subgroup-matrix")[];
  /**
   * Elementwise work on f16 tensors. "native" computes in f16. "storage" computes in f32 and rounds what it stores. "auto"
   * (default) is native if the adapter has shader-f16, except on software adapters, which emulate it slowly.
   * Products, reductions, softmax and norms always accumulate in f32.
   */
  f16?: "auto" | "native" | "storage";
  /** Requests WebGPU's default limits instead of the adapter's. */
  defaultLimits?: boolean;
  /**
   * How variants of kernels are chosen. Default: the fastest by earlier measurements of this adapter, shipped or on this
   * machine, else by a heuristic. true: variants that were never measured are measured at their first compilation (slow) and
   * stored. false: by the heuristic only.
   */
  tune?: boolean;
  /** Lower limits than the adapter's, to test tensors larger than a binding. In bytes. */
  limits?: { maxStorageBufferBindingSize?: number };
}

/** Error scopes of `guard`, from the outermost to the innermost. */
const ERRORS = ["internal", "validation", "out-of-memory"] as const;

/** A GPU device with its pipelines, memory and tuner. Values of one device cannot be used on another. */
export class Device {
  readonly pipelines: PipelineCache;
  readonly pool: Pool;
  /** Why the device was lost. Undefined while it works. */
  lost?: string;
  /** Values on their way to the host. */
  private readonly reads = new Set<Promise<unknown>>();

  constructor(
    readonly gpu: GPUDevice,
    readonly info: DeviceInfo,
    public tuner = new Tuner(),
    /** The user's own device, which outlives this object. */
    private readonly borrowed = false,
  ) {
    this.pipelines = new PipelineCache(this);
    this.pool = new Pool(gpu, gpu.limits.maxBufferSize);
    void gpu.lost.then((reason) => {
      this.lost = reason.message || reason.reason || "unknown reason";
    });
  }

  /** Notes that values are on their way: `close` waits for them. */
  arriving(values: Promise<unknown>): void {
    const settled = values.then(
      () => void this.reads.delete(settled),
      () => void this.reads.delete(settled),
    );
    this.reads.add(settled);
  }

  /** Frees all memory, after the values that are on their way to the host. A device of the user's own is not destroyed. */
  async close(): Promise<void> {
    await Promise.all(this.reads);
    this.pool.destroyAll();
    if (!this.borrowed) this.gpu.destroy();
  }

  /** Calls `ask`, which waits for the GPU, and returns its promise. On software adapters it polls rarely (polling.ts). */
  wait<T>(ask: () => Promise<T>): Promise<T> {
    return this.info.kind === "software" ? patiently(ask) : ask();
  }

  /** Resolves once all work submitted so far is done. */
  idle(): Promise<unknown> {
    return this.wait(() => this.gpu.queue.onSubmittedWorkDone());
  }

  /**
   * Makes GPU calls, all of them before `calls` returns, and resolves to its result once the device has validated them.
   * WebGPU reports errors later and names no caller: error scopes keep those of one flush out of the next.
   * @throws the first error of these calls. Their buffers are destroyed, because some may be invalid.
   */
  async guard<T>(calls: () => T): Promise<T> {
    const { gpu, pool } = this;
    for (const filter of ERRORS) gpu.pushErrorScope(filter);
    const watched = pool.watch();
    let result: { value: T } | { thrown: unknown };
    try {
      result = { value: calls() };
    } catch (thrown) {
      result = { thrown };
    }
    const created = watched();
    // `wait` here too: one poll without a pause makes all later polls run without a pause (polling.ts).
    const errors = await this.wait(() => Promise.all(ERRORS.map(() => gpu.popErrorScope()))).catch(() => []);
    const memory = errors[0]; // the innermost scope: an allocation that fails makes later calls invalid
    const error = memory ?? errors.find((found) => found);
    if ("value" in result && !error && this.lost === undefined) return result.value;
    pool.forget(created);
    this.check();
    if ("thrown" in result) throw result.thrown;
    throw new Error(`WebGPU: ${memory ? "the GPU is out of memory: " : ""}${error?.message}`);
  }

  /** Throws if the device was lost. */
  check(): void {
    if (this.lost !== undefined)
      throw new Error(`the GPU device was lost (${this.lost}); call init() again and reload your weights`);
  }
}

const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
] as const;

const MATRICES = "chromium-experimental-subgroup-matrix";

/** Dawn's instance. It must stay alive as long as its devices: garbage collection of it aborts the process. */
let dawnGpu: GPU | undefined;
let opening: Promise<GPU> | undefined;

/** navigator.gpu in browsers and Deno; the npm package `webgpu` in Node. */
async function findGpu(): Promise<GPU | undefined> {
  const found = (globalThis as { navigator?: Navigator }).navigator?.gpu;
  if (found) return found;
  if ((globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node === undefined)
    return undefined;
  const name = "webgpu"; // a computed specifier: bundlers must not follow it
  const dawn = await import(/* @vite-ignore */ name).catch(() => undefined);
  if (!dawn) return undefined;
  Object.assign(globalThis, dawn.globals);
  return (opening ??= openDawn(dawn.create([]) as GPU));
}

/** Makes the first request for an adapter. In it Dawn looks for drivers; later requests reuse what it found. */
async function openDawn(gpu: GPU): Promise<GPU> {
  dawnGpu = gpu;
  await (await import("./node.ts")).withoutLimitWarnings(() => gpu.requestAdapter());
  return gpu;
}

/** Whether WGSL has a language feature. These belong to the implementation, not to a device. */
const hasLanguageFeature = (name: string): boolean =>
  ((globalThis as { navigator?: Navigator }).navigator?.gpu ?? dawnGpu)?.wgslLanguageFeatures.has(name) ?? false;

/** How to get an adapter: text of the error and the warning if there is none. */
export const ADAPTER_ROUTES = `No WebGPU adapter was found. Ways to get one:
- Node: npm install webgpu (Dawn), and a Vulkan, Metal or D3D12 driver. Without a GPU, a software driver does:
  - Debian 13, Ubuntu 22.04 or newer: apt-get install mesa-vulkan-drivers
  - Debian 12: enable bookworm-backports, then apt-get install -t bookworm-backports mesa-vulkan-drivers (Mesa >= 25; 22.3 gives no adapter)
  - no root: the SwiftShader library of a Chromium package, with VK_ICD_FILENAMES pointing to its vk_swiftshader_icd.json
- Linux services and containers: set XDG_RUNTIME_DIR to a writable folder
- Browsers: Chrome or Edge 121+, Safari 26+, Firefox 141+; headless Chromium needs --enable-unsafe-webgpu
- Deno: built in (deno run --unstable-webgpu on older versions)
- init({ device }) takes a GPUDevice of yours; init({ backend: "reference" }) computes in f64 on the CPU (slow)`;

/** Opens a device on the best adapter. Undefined if there is no adapter. */
export async function openDevice(options: InitOptions): Promise<Device | undefined> {
  if (options.device)
    return open(options.device, (options.device as { adapterInfo?: GPUAdapterInfo }).adapterInfo, options);
  const gpu = await findGpu();
  const adapter = await gpu?.requestAdapter({ powerPreference: options.powerPreference ?? "high-performance" });
  if (!adapter) return undefined;
  const wanted = ["shader-f16", "subgroups", "timestamp-query", MATRICES].filter(
    (f) => adapter.features.has(f) && !options.disable?.includes(f as never),
  );
  const requiredLimits: Record<string, number> = {};
  if (!options.defaultLimits) for (const name of LIMITS) requiredLimits[name] = adapter.limits[name];
  const device = await adapter.requestDevice({ requiredFeatures: wanted as GPUFeatureName[], requiredLimits });
  return open(device, adapter.info, options);
}

async function open(gpu: GPUDevice, adapter: GPUAdapterInfo | undefined, options: InitOptions): Promise<Device> {
  const info = await describe(gpu, adapter, options);
  const tuner = options.tune === false ? new Tuner() : await tunerFor(info);
  tuner.asking = options.tune === true;
  return new Device(gpu, info, tuner, options.device !== undefined);
}

/** Whether the adapter compiles a shader. Some implementations offer a feature before their compiler supports all of it. */
async function compiles(device: GPUDevice, code: string): Promise<boolean> {
  device.pushErrorScope("validation");
  device.createShaderModule({ code });
  return (await device.popErrorScope()) === null;
}

const HALVES = `enable f16;
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(1)
fn main() {
  let h = vec4<f16>(bitcast<vec2<f16>>(x[0]), vec2<f16>(vec2f(1.5)));
  x[0] = bitcast<u32>(max(h, vec4<f16>(f16(0.5))).zx);
}`;

/** The matrix units whose kernel compiles. The experimental feature still changes, so an offer alone proves nothing. */
async function matrixUnits(device: GPUDevice, info: GPUAdapterInfo | undefined, SG: number): Promise<MatrixUnit[]> {
  const configs = (info as { subgroupMatrixConfigs?: Iterable<MatrixConfig> } | undefined)?.subgroupMatrixConfigs ?? [];
  const units: MatrixUnit[] = [];
  for (const { componentType, resultComponentType, M, N, K } of configs) {
    if ((componentType !== "f32" && componentType !== "f16") || resultComponentType !== "f32") continue;
    if (32 % M || 32 % N || 32 % K) continue; // tiles are of 32 or 64 rows and 32 columns
    const unit: MatrixUnit = { component: componentType, M, N, K };
    if (await compiles(device, matrixProbe(unit, SG))) units.push(unit);
  }
  return units;
}

interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

async function describe(
  device: GPUDevice,
  info: GPUAdapterInfo | undefined,
  options: InitOptions,
): Promise<DeviceInfo> {
  const { limits, features } = device;
  const has = (f: string): boolean => features.has(f) && !options.disable?.includes(f as never);
  const text = [info?.vendor, info?.architecture, info?.device, info?.description].filter(Boolean).join(" ");
  const software = info?.isFallbackAdapter === true || /swiftshader|llvmpipe|software|basic render/i.test(text);
  const fixed = info && info.subgroupMinSize === info.subgroupMaxSize ? info.subgroupMinSize : 0;
  const { f16 = "auto" } = options;
  if (!["auto", "native", "storage"].includes(f16))
    throw new TypeError(`init: f16 must be "auto", "native" or "storage", got ${JSON.stringify(f16)}`);
  if (f16 === "native" && !has("shader-f16"))
    throw new Error(`init: f16 "native" needs shader-f16, which ${text} lacks`);
  const subgroupSize = has("subgroups") ? (fixed ?? 0) : 0;
  const wanted = f16 === "native" || (f16 === "auto" && !software && has("shader-f16"));
  return {
    kind: software ? "software" : /nvidia|discrete/i.test(text) ? "discrete" : "integrated",
    subgroupSize,
    f16: has("shader-f16"),
    f16Arithmetic: wanted && (await compiles(device, HALVES)),
    dot4: hasLanguageFeature("packed_4x8_integer_dot_product"),
    matrixUnits:
      has(MATRICES) && has("shader-f16") && subgroupSize > 0 ? await matrixUnits(device, info, subgroupSize) : [],
    timestamps: has("timestamp-query"),
    maxInvocations: limits.maxComputeInvocationsPerWorkgroup,
    maxWorkgroupBytes: limits.maxComputeWorkgroupStorageSize,
    maxBindingBytes: Math.min(
      limits.maxStorageBufferBindingSize,
      options.limits?.maxStorageBufferBindingSize ?? Infinity,
    ),
    maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
    description: text || "unknown adapter",
  };
}
