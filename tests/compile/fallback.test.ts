import { expect, test } from "vitest";
import { defineOp } from "../../src/ops/define.ts";
import { rand, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import { apply, type Tensor } from "../../src/tensor/tensor.ts";
import { kernelLabels } from "../support/plans.ts";

test("a fallback that makes tensors of its own from host values is an error, not garbage", async () => {
  if (!(await init())) return expect.fail("no WebGPU adapter");
  const op = defineOp({ name: "leaky", kind: "kernel", fallback: ([x]) => x.add(tensor([1, 2, 3])) });
  const leaky = apply(op, [rand(3)], {}, [3], "f32");
  await expect(leaky.data()).rejects.toThrow("leaky: its fallback made a tensor from values of the host");
  const own = defineOp({ name: "leaky_result", kind: "kernel", fallback: () => tensor([1, 2, 3]) });
  await expect(apply(own, [rand(3)], {}, [3], "f32").data()).rejects.toThrow("leaky_result: its fallback");
});

test("a long chain after a template becomes a separate kernel", async () => {
  if (!(await init())) return expect.fail("no WebGPU adapter");
  const chain = (x: Tensor, ops: number): Tensor => {
    for (let i = 0; i < ops; i++) x = i % 2 ? x.sin() : x.tanh();
    return x;
  };
  const [a, b] = [rand(8, 8), rand(8, 8)];
  await Promise.all([a.data(), b.data()]);
  expect(await kernelLabels(chain(a.matmul(b), 32))).toHaveLength(1);
  expect(await kernelLabels(chain(a.matmul(b), 33))).toHaveLength(2);
  expect(await kernelLabels(chain(a.matmul(b), 100))).toHaveLength(2);
  expect(await kernelLabels(chain(a, 32).softmax(-1))).toHaveLength(1);
  expect(await kernelLabels(chain(a, 33).softmax(-1))).toHaveLength(2);
  expect(await kernelLabels(chain(a.softmax(-1), 40))).toHaveLength(2);
});
