import { type Case, concat, type Input } from "../../workloads/workload.ts";
import { type Opened, opening } from "../common/adapter.ts";
import { Graph } from "../common/onnx.ts";

export interface Ort {
  readonly name: string;
  readonly version: string;
  readonly opened: Opened;
  /** A case of the graph that `build` writes. `build` returns the names of the outputs and their shapes. */
  bench(inputs: Record<string, Input>, build: (g: Graph) => Record<string, readonly number[]>): Promise<Case>;
}

/**
 * Adds initialisers to `var x : T;`. In this Dawn, such a variable in a loop keeps its value from the iteration before, and ORT's
 * attention is wrong without a reset.
 */
const initialise = (code: string) =>
  code.replace(/(\bvar\s+\w+\s*:\s*)([^;=]+?)\s*;/g, (all, head, type) =>
    /texture|sampler/.test(type) ? all : `${head}${type} = ${type}();`,
  );

export async function loadOrt(): Promise<Ort> {
  const ort: any = await import("onnxruntime-web/webgpu");
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const create = (graph: Graph, outputs: Record<string, readonly number[]>) =>
    ort.InferenceSession.create(graph.model(outputs), {
      executionProviders: ["webgpu"],
      preferredOutputLocation: "gpu-buffer",
      logSeverityLevel: 3,
    });
  const probe = new Graph({ x: { shape: [1], data: new Float32Array(1) } });
  // This session stays open: ORT's device lives only as long as a session.
  const [, opened] = await opening(() => create(probe, { [probe.op("Neg", ["x"])]: [1] }), initialise);
  const device = opened.device;
  return {
    name: "ONNX Runtime Web",
    version: ort.env.versions.web ?? ort.env.versions.common,
    opened,
    async bench(inputs, build) {
      const graph = new Graph(inputs);
      const outputs = build(graph);
      const session = await create(graph, outputs);
      const buffers: GPUBuffer[] = [];
      const feeds: Record<string, unknown> = {};
      for (const [name, { data, shape }] of Object.entries(inputs)) {
        const buffer = device.createBuffer({ size: Math.ceil(data.byteLength / 16) * 16, usage: 128 | 8 | 4 }); // storage, copies
        device.queue.writeBuffer(buffer, 0, data as Float32Array<ArrayBuffer>);
        buffers.push(buffer);
        feeds[name] = ort.Tensor.fromGpuBuffer(buffer, {
          dataType: data instanceof Int32Array ? "int32" : "float32",
          dims: [...shape],
        });
      }
      let last: Record<string, any> = {};
      const drop = () => Object.values(last).forEach((tensor) => tensor.dispose());
      return {
        async run() {
          drop();
          last = await session.run(feeds);
          await device.queue.onSubmittedWorkDone();
        },
        result: async () => concat(await Promise.all(Object.keys(outputs).map((name) => last[name].getData()))),
        dispose() {
          drop();
          session.release();
          for (const buffer of buffers) buffer.destroy();
        },
      };
    },
  };
}
