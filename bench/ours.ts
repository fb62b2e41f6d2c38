import * as sg from "../src/index.ts";
import { AdamW, type AdamWOptions } from "../src/nn/index.ts";
import { currentDevice, setFusion } from "../src/runtime/session.ts";
import { type Case, concat, type Input } from "./workloads/workload.ts";

export interface Ours {
  readonly sg: typeof sg;
  readonly device: sg.DeviceInfo;
  /** A function of resident tensors; every run builds its graph anew, as a user's code does. */
  bench(f: (...x: sg.Tensor[]) => sg.Tensor | sg.Tensor[], ...inputs: Input[]): Case;
  /** The same with fusion off: one kernel per op. */
  unfused(f: (...x: sg.Tensor[]) => sg.Tensor | sg.Tensor[], ...inputs: Input[]): Case;
  /** A training step with AdamW; `loss` gets the parameters and the resident data. */
  train(
    parameters: Input[],
    options: AdamWOptions,
    data: Input[],
    loss: (p: sg.Tensor[], data: sg.Tensor[]) => sg.Tensor,
  ): Case;
}

const put = ({ data, shape }: Input) =>
  sg.tensor(data, { shape: [...shape], dtype: data instanceof Int32Array ? "i32" : "f32" });

/** Returns a value's buffer at once, as the peers' dispose() does; without it the garbage collector decides. */
function release({ node }: sg.Tensor): void {
  if (!node.storage || node.storage.shared) return;
  currentDevice()!.pool.disown(node.storage);
  node.storage = undefined;
}

export async function openOurs(options: Parameters<typeof sg.init>[0] = {}): Promise<Ours> {
  const device = (await sg.init({ backend: "webgpu", ...options }))!;
  const bench: Ours["bench"] = (f, ...inputs) => {
    const resident = inputs.map(put);
    let outputs: sg.Tensor[] = [];
    return {
      async run() {
        outputs.forEach(release);
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
      const made = bench(f, ...inputs);
      let off = false;
      return {
        ...made,
        async run() {
          if (!off) await setFusion(false);
          off = true;
          await made.run();
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
