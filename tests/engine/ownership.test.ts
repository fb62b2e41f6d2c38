import { expect, test } from "vitest";
import { rand, tensor, zeros } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import { collectGarbage } from "../../src/runtime/node.ts";
import { assign, flush } from "../../src/tensor/engine.ts";

test("a value assigned in place keeps its buffer when the leaf it came from is collected", async () => {
  await init();
  const N = 4096;
  const counted = tensor(new Float32Array(N).fill(1));
  for (let i = 0; i < 3; i++) {
    assign(counted, counted.add(1));
    await flush();
  }
  const cached = zeros([N]);
  assign(cached, counted.mul(2));
  await flush();
  for (let i = 0; i < 4; i++) {
    collectGarbage();
    await new Promise((done) => setTimeout(done, 10)); // finalisers run between tasks of the event loop
  }
  const others = Array.from({ length: 8 }, () => rand(N)); // would take the buffers, were they free
  await flush(...others);
  expect([...new Set(await counted.add(0).data())]).toEqual([4]);
  expect([...new Set(await cached.add(0).data())]).toEqual([8]);
  expect(others.length).toBe(8);
});
