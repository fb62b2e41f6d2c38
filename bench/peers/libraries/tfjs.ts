import type * as Tf from "@tensorflow/tfjs-core";
import { type Case, concat, type Input } from "../../workloads/workload.ts";
import { type Opened, opening } from "../common/adapter.ts";

export interface Tfjs {
  readonly name: string;
  readonly version: string;
  readonly opened: Opened;
  readonly tf: typeof Tf;
  put(input: Input): Tf.Tensor<any>;
  bench(f: (...x: Tf.Tensor<any>[]) => Tf.Tensor<any> | Tf.Tensor<any>[], ...inputs: Input[]): Case;
  /** A case of a training step that updates variables and returns the loss. */
  steps(step: (t: number) => Tf.Tensor<any>, owned: Tf.Tensor<any>[]): Case;
}

export async function loadTfjs(): Promise<Tfjs> {
  const tf = await import("@tensorflow/tfjs-core");
  await import("@tensorflow/tfjs-core/dist/register_all_gradients");
  await import("@tensorflow/tfjs-backend-webgpu");
  const [, opened] = await opening(async () => {
    await tf.setBackend("webgpu");
    await tf.ready();
  });
  const finish = async () => {
    const backend = tf.backend() as any;
    backend.endComputePassEncoder();
    backend.submitQueue();
    await opened.device.queue.onSubmittedWorkDone();
  };
  const put = ({ data, shape }: Input) => tf.tensor(data, [...shape], data instanceof Int32Array ? "int32" : "float32");
  return {
    name: "TensorFlow.js",
    version: tf.version_core,
    opened,
    tf,
    put,
    bench(f, ...inputs) {
      const resident = inputs.map(put);
      let outputs: Tf.Tensor[] = [];
      return {
        async run() {
          tf.dispose(outputs);
          outputs = [tf.tidy(() => f(...resident))].flat();
          await finish();
        },
        result: async () => concat(await Promise.all(outputs.map((x) => x.data()))),
        dispose: () => tf.dispose([...outputs, ...resident]),
      };
    },
    steps(step, owned) {
      const losses: number[] = [];
      let t = 0;
      return {
        async run() {
          t++;
          const loss = tf.tidy(() => step(t));
          await finish();
          if (t <= 3) losses.push((await loss.data())[0]);
          loss.dispose();
        },
        result: async () => Float32Array.from(losses),
        dispose: () => tf.dispose(owned),
      };
    },
  };
}
