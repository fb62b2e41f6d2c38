import { setFusion } from "../src/bench/index.ts";
import * as sg from "../src/index.ts";
import { AdamW, type AdamWOptions } from "../src/nn/index.ts";
import { type Case, concat, type Input } from "./workloads/workload.ts";

export interface Ours {
  readonly sg: typeof sg;
  readonly device: sg.DeviceInfo;
  /** A case of a function of resident tensors. Every run builds its graph again, as a user's code does. */
  bench(f: (...x: sg.Tensor[]) => sg.Tensor | sg.Tensor[], ...inputs: Input[]): Case;
  /** The same with fusion off: one kernel per op. */
  unfused(f: (...x: sg.Tensor[]) => sg.Tensor | sg.Tensor[], ...inputs: Input[]): Case;
  /** A training step with AdamW. `loss` gets the parameters and the resident data. */
  train(
    parameters: Input[],
    options: AdamWOptions,
    data: Input[],
    loss: (p: sg.Tensor[], data: sg.Tensor[]) => sg.Tensor,
  ): Case;
}

const put = ({ data, shape }: Input) =>
  sg.tensor(data, { shape: [...shape], dtype: data instanceof Int32Array ? "i32" : "f32" });

export async function openOurs(options: Parameters<typeof sg.init>[0] = {}): Promise<Ours> {
  const device = (await sg.init({ backend: "webgpu", ...options }))!;
  const bench: Ours["bench"] = (f, ...inputs) => {
    const resident = inputs.map(put);
    let outputs: sg.Tensor[] = [];
    return {
      async run() {
        for (const x of outputs) x[Symbol.dispose](); // frees buffers at once, as the peers' dispose() does
        outputs = [f(...resident)].flat();
        await sg.flush(...outputs);
        await sg.synchronize();
      },
      result: async () => concat(await Promise.all(outputs.map((x) => x.data()))),
    };
  };
  return {
    sg,
    device,
    bench,
    unfused(f, ...inputs) {
      const fused = bench(f, ...inputs);
      let off = false;
      return {
        ...fused,
        async run() {
          if (!off) await setFusion(false);
          off = true;
          await fused.run();
        },
        dispose: () => setFusion(true),
      };
    },
    train(parameters, adamw, data, loss) {
      const p = parameters.map((x) => put(x).requiresGrad_());
      const resident = data.map(put);
      const optimizer = new AdamW(p, adamw);
      const losses: number[] = [];
      let t = 0;
      return {
        async run() {
          optimizer.zeroGrad();
          const value = loss(p, resident);
          value.backward();
          await optimizer.step();
          await sg.synchronize();
          if (++t <= 3) losses.push(await value.item());
        },
        result: async () => Float32Array.from(losses),
      };
    },
  };
}
