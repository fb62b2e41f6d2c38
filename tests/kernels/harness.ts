/** Runs kernel templates and lowerings on the adapter, without the engine. */
import { create, globals } from "webgpu";
import { kernelSource } from "../../kernels/index.ts";
import { bindings, specialize } from "../../src/compile/codegen/template.ts";
import type { DeviceInfo } from "../../src/graph/device-info.ts";
import { byteSize, type DType } from "../../src/graph/dtype.ts";
import type {
  BufferRef,
  KernelCall,
  Lower,
  LowerContext,
  Operand,
  Specialization,
  Temp,
} from "../../src/graph/kernel-call.ts";
import { type Attrs, Node, type OutputSpec } from "../../src/graph/node.ts";
import type { Op } from "../../src/graph/op.ts";
import { contiguousStrides, numel } from "../../src/graph/shape.ts";

type HostArray = Float32Array | Int32Array | Uint32Array;

let gpu: GPU | undefined;
let opened: Promise<{ device: GPUDevice; info: DeviceInfo }> | undefined;

/** One device for the whole test file. */
export function open(): Promise<{ device: GPUDevice; info: DeviceInfo }> {
  opened ??= (async () => {
    Object.assign(globalThis, globals);
    gpu = create([]); // kept: the device does not outlive a collected GPU object
    const adapter = await gpu.requestAdapter();
    if (!adapter) throw new Error("no WebGPU adapter");
    const features = (["subgroups", "shader-f16"] as GPUFeatureName[]).filter((f) => adapter.features.has(f));
    const device = await adapter.requestDevice({ requiredFeatures: features });
    device.addEventListener("uncapturederror", (e) => console.error((e as GPUUncapturedErrorEvent).error.message));
    const { subgroupMinSize, subgroupMaxSize } = adapter.info;
    const info: DeviceInfo = {
      kind: "software",
      subgroupSize: adapter.features.has("subgroups") && subgroupMinSize === subgroupMaxSize ? subgroupMaxSize : 0,
      f16: adapter.features.has("shader-f16"),
      f16Arithmetic: false,
      matrixUnits: [],
      dot4: gpu.wgslLanguageFeatures.has("packed_4x8_integer_dot_product"),
      timestamps: false,
      maxInvocations: device.limits.maxComputeInvocationsPerWorkgroup,
      maxWorkgroupBytes: device.limits.maxComputeWorkgroupStorageSize,
      maxBindingBytes: device.limits.maxStorageBufferBindingSize,
      maxStorageBuffers: device.limits.maxStorageBuffersPerShaderStage,
      description: adapter.info.description,
    };
    return { device, info };
  })();
  return opened;
}

const pipelines = new Map<string, GPUComputePipeline>();

/** Compiles WGSL; a compile error throws with the compiler's messages. */
export async function pipeline(code: string): Promise<GPUComputePipeline> {
  const cached = pipelines.get(code);
  if (cached) return cached;
  const { device } = await open();
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const entries = bindings(code).map(
    (b): GPUBindGroupLayoutEntry => ({
      binding: b.index,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: b.kind === "uniform" ? "uniform" : b.kind === "read" ? "read-only-storage" : "storage" },
    }),
  );
  const layout = device.createPipelineLayout({ bindGroupLayouts: [device.createBindGroupLayout({ entries })] });
  const made = device.createComputePipeline({ layout, compute: { module } });
  const messages = (await module.getCompilationInfo()).messages.filter((m) => m.type === "error");
  const error = await device.popErrorScope();
  if (error)
    throw new Error(`${error.message}\n${messages.map((m) => `${m.lineNum}:${m.linePos} ${m.message}`).join("\n")}`);
  pipelines.set(code, made);
  return made;
}

let nothing: GPU | undefined; // kept, as `gpu`
let compiler: GPUDevice | undefined;

/** The error of a shader on Dawn's null backend, which has features that no adapter here has; `make`: of its pipeline. */
export async function refusal(code: string, make = false): Promise<string | undefined> {
  nothing ??= create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const requiredFeatures = ["chromium-experimental-subgroup-matrix", "shader-f16"] as GPUFeatureName[];
  compiler ??= await (await nothing.requestAdapter())!.requestDevice({ requiredFeatures });
  compiler.pushErrorScope("validation");
  const module = compiler.createShaderModule({ code });
  if (make) compiler.createComputePipeline({ layout: "auto", compute: { module } });
  return (await compiler.popErrorScope())?.message;
}

export async function upload(data: HostArray | number, usage = 0): Promise<GPUBuffer> {
  const { device } = await open();
  const count = typeof data === "number" ? data : data.length;
  const buffer = device.createBuffer({
    size: byteSize("f32", count),
    usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST | usage,
  });
  if (typeof data !== "number") device.queue.writeBuffer(buffer, 0, data as Float32Array<ArrayBuffer>);
  return buffer;
}

export async function download<T extends HostArray>(buffer: GPUBuffer, into: T): Promise<T> {
  const { device } = await open();
  const staging = device.createBuffer({ size: buffer.size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const Type = into.constructor as Float32ArrayConstructor;
  into.set(new Type(staging.getMappedRange()).subarray(0, into.length));
  staging.unmap();
  staging.destroy();
  return into;
}

export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly grid: readonly [number, number, number];
}

/** A dispatch of `code` with `dims` in the uniform at binding 0 and `buffers` from binding 1 on. */
export async function prepare(
  code: string,
  dims: readonly number[],
  buffers: GPUBuffer[],
  grid: readonly [number, number, number],
): Promise<Dispatch> {
  const { device } = await open();
  const made = await pipeline(code);
  const kinds = bindings(code);
  if (kinds.length !== buffers.length + 1)
    throw new Error(`kernel binds ${kinds.length - 1} buffers, the call gives ${buffers.length}`);
  if (grid.some((g) => g > 65_535)) throw new Error(`grid ${grid} exceeds 65535`);
  const uniform = await upload(
    new Uint32Array(Math.ceil(dims.length / 4) * 4).map((_, i) => dims[i] ?? 0),
    GPUBufferUsage.UNIFORM,
  );
  const entries = [uniform, ...buffers].map((buffer, binding) => ({ binding, resource: { buffer } }));
  return { pipeline: made, group: device.createBindGroup({ layout: made.getBindGroupLayout(0), entries }), grid };
}

/** Submits the dispatches in order in one pass and waits for them. */
export async function submit(dispatches: readonly Dispatch[]): Promise<void> {
  const { device } = await open();
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const d of dispatches) {
    pass.setPipeline(d.pipeline);
    pass.setBindGroup(0, d.group);
    pass.dispatchWorkgroups(...d.grid);
  }
  pass.end();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
}

/** Median and minimum CPU milliseconds of several jobs, interleaved so that load affects all alike. */
export async function compare(
  jobs: Record<string, readonly Dispatch[]>,
  runs = 9,
): Promise<Record<string, { median: number; min: number }>> {
  const times: Record<string, number[]> = {};
  for (const job of Object.values(jobs)) await submit(job);
  for (let i = 0; i < runs; i++) {
    for (const [name, job] of Object.entries(jobs)) {
      const start = process.cpuUsage();
      await submit(job);
      const { user, system } = process.cpuUsage(start);
      (times[name] ??= []).push((user + system) / 1000);
    }
  }
  return Object.fromEntries(
    Object.entries(times).map(([name, t]) => {
      t.sort((a, b) => a - b);
      return [name, { median: t[t.length >> 1], min: t[0] }];
    }),
  );
}

export interface Source {
  readonly data: HostArray;
  /** Default: that of the array. */
  readonly dtype?: DType;
  readonly shape: readonly number[];
  readonly offset?: number;
  readonly strides?: readonly number[];
}

export interface Lowered {
  readonly calls: KernelCall[];
  readonly dispatches: Dispatch[];
  /** Values of output `i` after `submit(dispatches)`. */
  read(i?: number): Promise<HostArray>;
}

const opStub = (name: string, inPlace?: readonly number[]): Op => ({ name, kind: "kernel", inPlace });

/** Lowers one op over host data and prepares its dispatches; `hooks` replaces the epilogue of the last call. */
export async function lowerOp(
  lower: Lower,
  sources: readonly Source[],
  attrs: Attrs,
  outputs: OutputSpec | readonly OutputSpec[],
  options: {
    info?: Partial<DeviceInfo>;
    inPlace?: readonly number[];
    epilogue?: Pick<Specialization, "hooks" | "helpers">;
    /** Changes the WGSL before it is compiled. */
    rewrite?: (code: string) => string;
    /** Which of the candidates that a lowering offers; the last one when there are fewer. */
    candidate?: number;
  } = {},
): Promise<Lowered> {
  const { info } = await open();
  const specs = Array.isArray(outputs) ? (outputs as readonly OutputSpec[]) : [outputs as OutputSpec];
  const leaves = sources.map(
    (s) =>
      new Node(
        opStub("leaf"),
        [],
        {},
        s.shape,
        s.dtype ?? (s.data instanceof Int32Array ? "i32" : s.data instanceof Uint32Array ? "u32" : "f32"),
      ),
  );
  const node = new Node(
    opStub("op", options.inPlace),
    leaves,
    attrs,
    specs[0].shape,
    specs[0].dtype,
    specs.length > 1 ? specs : undefined,
  );
  const inputs = await Promise.all(sources.map((s) => upload(s.data)));
  const results = await Promise.all(
    specs.map((s, i) => {
      const source = options.inPlace?.[i] ?? -1;
      return source >= 0 ? inputs[source] : upload(new Float32Array(numel(s.shape)).fill(NaN)); // unwritten elements show
    }),
  );
  const temps = new Map<Temp, GPUBuffer>();
  const buffer = async (ref: BufferRef): Promise<GPUBuffer> => {
    if ("temp" in ref) {
      if (!temps.has(ref)) temps.set(ref, await upload(new Float32Array(Math.ceil(ref.bytes / 4)).fill(NaN)));
      return temps.get(ref)!;
    }
    if (ref instanceof Node) return ref === node ? results[0] : inputs[leaves.indexOf(ref)];
    return results[ref.output];
  };
  const cx: LowerContext = {
    device: { ...info, ...options.info },
    operand: (i): Operand => ({
      buffer: leaves[i],
      shape: sources[i].shape,
      offset: sources[i].offset ?? 0,
      strides: sources[i].strides ?? contiguousStrides(sources[i].shape),
    }),
    window: (ref) => ref, // nothing here is larger than a binding
    output: (i = 0) => ({ node, output: i }),
    temp: (bytes) => ({ temp: true, bytes }),
    choose: (_template, _signature, candidates) => candidates[Math.min(options.candidate ?? 0, candidates.length - 1)],
  };
  const calls = lower(node, cx);
  if (!calls) throw new Error("the op asked for its fallback");
  const dispatches: Dispatch[] = [];
  for (const call of calls) {
    const hooked = call.epilogue && options.epilogue ? options.epilogue : {};
    const code = specialize(specialize(kernelSource(call.kernel), { params: call.params, ...call.reads }), hooked);
    const buffers: GPUBuffer[] = [];
    for (const ref of call.bind) buffers.push(await buffer(ref));
    dispatches.push(await prepare(options.rewrite?.(code) ?? code, call.dims, buffers, call.grid));
  }
  const read = async (i = 0): Promise<HostArray> => {
    const count = numel(specs[i].shape);
    const into =
      specs[i].dtype === "i32"
        ? new Int32Array(count)
        : specs[i].dtype === "f32"
          ? new Float32Array(count)
          : new Uint32Array(count);
    return download(results[i], into);
  };
  return { calls, dispatches, read };
}

/** Runs an op twice over the same buffers' contents and checks that the bits agree; returns output `i`s. */
export async function runTwice(...args: Parameters<typeof lowerOp>): Promise<HostArray[]> {
  const specs = Array.isArray(args[3]) ? args[3] : [args[3]];
  const run = async (): Promise<HostArray[]> => {
    const op = await lowerOp(...args);
    await submit(op.dispatches);
    return Promise.all(specs.map((_, i) => op.read(i)));
  };
  const [first, second] = [await run(), await run()];
  first.forEach((a, i) => {
    const [x, y] = [new Uint32Array(a.buffer), new Uint32Array(second[i].buffer)];
    const at = x.findIndex((v, j) => v !== y[j]);
    if (at >= 0) throw new Error(`output ${i} differs between two runs at ${at}: ${a[at]} and ${second[i][at]}`);
  });
  return first;
}
