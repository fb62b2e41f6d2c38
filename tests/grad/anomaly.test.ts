/** `detectAnomaly` names the op and the line of the first NaN, and `setGradEnabled` the state of recording. */
import { beforeAll, describe, expect, test } from "vitest";
import { detectAnomaly, init, isGradEnabled, noGrad, setGradEnabled, tensor } from "../../src/index.ts";
import { AdamW } from "../../src/nn/index.ts";

describe.each(["reference", "webgpu"] as const)("detectAnomaly on %s", (backend) => {
  beforeAll(async () => void (await init({ backend })));

  test("forward: the op that makes it, and this file", async () => {
    const x = tensor([4, -1, 9]);
    const run = detectAnomaly(() => x.sub(1).mul(1).sqrt().add(1).sum());
    await expect(run).rejects.toThrow(/detectAnomaly: sqrt \[3\] gives NaN first at element 1; its inputs hold none/);
    await expect(detectAnomaly(() => x.sqrt().sum())).rejects.toThrow(/anomaly\.test\.ts/);
    const broken = tensor([1, NaN]);
    await expect(detectAnomaly(() => broken.exp())).rejects.toThrow(/exp \[2\] .*its input 0 \[2\] holds NaN/);
  });

  test("backward: the op whose gradient it is; nothing is updated", async () => {
    const p = tensor([0, 1]).requiresGrad_();
    const optimizer = new AdamW([p], { lr: 0.1 });
    const step = detectAnomaly(async () => {
      p.sqrt()
        .mul(tensor([0, 1]))
        .sum()
        .backward(); // 0 · ∞
      await optimizer.step();
    });
    await expect(step).rejects.toThrow(/in the gradient of sqrt at .*anomaly\.test\.ts/s);
    expect(Array.from(await p.data())).toEqual([0, 1]);
  });

  test("without NaN the result is given; outside nothing is checked", async () => {
    expect(await detectAnomaly(async () => (await tensor([1, 2]).exp().log().sum().item()) > 2.9)).toBe(true);
    expect(await tensor([-1]).sqrt().item()).toBeNaN();
  });
});

test("setGradEnabled", async () => {
  const x = tensor([1]).requiresGrad_();
  expect(setGradEnabled(false, () => x.mul(2).requiresGrad)).toBe(false);
  setGradEnabled(false);
  expect([isGradEnabled(), x.mul(2).requiresGrad, setGradEnabled(true, () => x.mul(2).requiresGrad)]).toEqual([
    false,
    false,
    true,
  ]);
  setGradEnabled(true);
  expect([isGradEnabled(), noGrad(() => isGradEnabled())]).toEqual([true, false]);
});
