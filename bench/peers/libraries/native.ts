import { type Case, concat, type Input } from "../../workloads/workload.ts";
import type { Opened } from "../common/adapter.ts";
import { Graph } from "../common/onnx.ts";
import type { Ort } from "./ort.ts";

const THREADS = 2;

/** ONNX Runtime's native CPU code: an upper bound for a software adapter, not a peer. */
export async function loadNative(): Promise<Ort> {
  const ort: any = await import("onnxruntime-node");
  const opened = { counts: { dispatches: 0, passes: 0, submits: 0 }, errors: [] } as unknown as Opened;
  return {
    name: "ONNX Runtime, CPU",
    version: ort.env.versions.node ?? ort.env.versions.common,
    opened,
    async bench(inputs: Record<string, Input>, build): Promise<Case> {
      const graph = new Graph(inputs);
      const outputs = build(graph);
      const session = await ort.InferenceSession.create(graph.model(outputs), {
        executionProviders: ["cpu"],
        intraOpNumThreads: THREADS,
        interOpNumThreads: 1,
        logSeverityLevel: 3,
        extra: { session: { intra_op: { allow_spinning: "0" } } }, // idle threads must not count as work
      });
      const feeds = Object.fromEntries(
        Object.entries(inputs).map(([name, { data, shape }]) => [
          name,
          new ort.Tensor(data instanceof Int32Array ? "int32" : "float32", data, [...shape]),
        ]),
      );
      let last: Record<string, any> = {};
      return {
        async run() {
          last = await session.run(feeds);
        },
        result: async () => concat(Object.keys(outputs).map((name) => last[name].data)),
        dispose: () => session.release(),
      };
    },
  };
}
