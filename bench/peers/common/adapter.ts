import { create, globals } from "webgpu";

/** GPU calls of one library since the last reset. */
export interface Counts {
  dispatches: number;
  passes: number;
  submits: number;
}

export interface Opened {
  device: GPUDevice;
  counts: Counts;
  /** Validation and device errors. A workload that raises one counts as failed. */
  errors: string[];
}

const opened: Opened[] = [];
let rewrite: ((code: string) => string) | undefined;

/**
 * Sets `navigator.gpu` to Dawn, and watches the devices that libraries open. Call it before any library is imported. Every library
 * gets its own device on the same adapter.
 */
export async function installAdapter(): Promise<GPUAdapter> {
  Object.assign(globalThis, globals, { self: globalThis });
  const gpu = create([]);
  const requestAdapter = gpu.requestAdapter.bind(gpu);
  gpu.requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await requestAdapter(options);
    return adapter && watch(adapter);
  };
  if (!globalThis.navigator)
    Object.defineProperty(globalThis, "navigator", { value: { userAgent: "Node" }, configurable: true });
  Object.defineProperty(globalThis.navigator, "gpu", { value: gpu, configurable: true });
  const adapter = await requestAdapter();
  if (!adapter) throw new Error("bench:peers: Dawn found no adapter (on Debian: mesa-vulkan-drivers 25 or newer)");
  countCalls();
  return adapter;
}

/** Loads a library, and returns it with the device that it opened. `shader` rewrites the WGSL that the library compiles. */
export async function opening<T>(load: () => Promise<T>, shader?: (code: string) => string): Promise<[T, Opened]> {
  opened.length = 0;
  rewrite = shader;
  const library = await load();
  if (opened.length !== 1) throw new Error(`bench:peers: the library opened ${opened.length} devices, expected one`);
  return [library, opened[0]];
}

function watch(adapter: GPUAdapter): GPUAdapter {
  const requestDevice = adapter.requestDevice.bind(adapter);
  adapter.requestDevice = async (descriptor?: GPUDeviceDescriptor) => {
    // TensorFlow.js passes a nested array of features.
    const features = [...(descriptor?.requiredFeatures ?? [])].flat() as GPUFeatureName[];
    const device = await requestDevice({ ...descriptor, requiredFeatures: features });
    const entry: Opened = { device, counts: { dispatches: 0, passes: 0, submits: 0 }, errors: [] };
    device.addEventListener("uncapturederror", (event) =>
      entry.errors.push((event as GPUUncapturedErrorEvent).error.message),
    );
    const submit = device.queue.submit.bind(device.queue);
    device.queue.submit = (buffers) => {
      entry.counts.submits++;
      return submit(buffers);
    };
    const writeBuffer = device.queue.writeBuffer.bind(device.queue);
    device.queue.writeBuffer = ((buffer: GPUBuffer, at: number, data: any, offset?: number, size?: number) => {
      // Dawn rejects views of a shared wasm heap, so these are copied.
      if ((ArrayBuffer.isView(data) ? data.buffer : data) instanceof SharedArrayBuffer) {
        const unit = data.BYTES_PER_ELEMENT ?? 1;
        const start = (data.byteOffset ?? 0) + (offset ?? 0) * unit;
        const bytes = size === undefined ? data.byteLength - (offset ?? 0) * unit : size * unit;
        return writeBuffer(buffer, at, new Uint8Array(data.buffer ?? data, start, bytes).slice());
      }
      return writeBuffer(buffer, at, data, offset, size);
    }) as GPUQueue["writeBuffer"];
    const createShaderModule = device.createShaderModule.bind(device);
    const shader = rewrite;
    device.createShaderModule = (d) => createShaderModule(shader ? { ...d, code: shader(d.code) } : d);
    const createCommandEncoder = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (d) => {
      const encoder = createCommandEncoder(d);
      const begin = encoder.beginComputePass.bind(encoder);
      encoder.beginComputePass = (p) => {
        entry.counts.passes++;
        const pass = begin(p);
        owners.set(pass, entry.counts);
        return pass;
      };
      return encoder;
    };
    opened.push(entry);
    return device;
  };
  return adapter;
}

const owners = new WeakMap<object, Counts>();

function countCalls(): void {
  const prototype = (globalThis as any).GPUComputePassEncoder.prototype;
  for (const name of ["dispatchWorkgroups", "dispatchWorkgroupsIndirect"]) {
    const original = prototype[name];
    prototype[name] = function (this: object, ...sizes: number[]) {
      const counts = owners.get(this);
      if (counts) counts.dispatches++;
      return original.apply(this, sizes);
    };
  }
}
