/** In-place values, reads, recording of gradients and failed flushes: what one piece of work must not do to another. */
import { beforeEach, describe, expect, test } from "vitest";
import { forgetFlows } from "../../src/graph/recording.ts";
import { assign, enableGrad, flush, isGradEnabled, noGrad, type Tensor, tensor, writeAt } from "../../src/index.ts";
import { AdamW, SGD } from "../../src/nn/index.ts";
import { float, row } from "../../src/ops/elementwise.ts";
import { read } from "../../src/runtime/engine.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { openBackend } from "../support/backend.ts";

const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
const values = async (x: Tensor): Promise<number[]> => [...(await x.data())];
const parameter = (...data: number[]) => tensor(data, { requiresGrad: true });
const onGpu = () => currentDevice() !== undefined;

/** An op whose shader does not compile. */
const broken = row({
  name: "broken_state",
  rule: float,
  wgsl: ([x]) => `no_such_function(${x})`,
  js: () => {
    throw new Error("does not compile");
  },
  vjp: (g) => [g],
});

beforeEach(async () => {
  await openBackend();
});

describe.each([
  ["flows of the runtime", false],
  ["one list of scopes, as in browsers", true],
])("noGrad over awaits: %s", (_name, browser) => {
  beforeEach(() => forgetFlows(browser));

  test("scopes that overlap leave recording on", async () => {
    await Promise.all([20, 5, 10].map((ms) => noGrad(() => sleep(ms))));
    expect(isGradEnabled()).toBe(true);
    const x = parameter(2);
    x.square().sum().backward();
    expect(await values(x.grad!)).toEqual([4]);
  });

  test("one that ends leaves another off", async () => {
    const inner = noGrad(async () => {
      await sleep(20);
      return isGradEnabled();
    });
    await noGrad(() => sleep(5));
    expect([await inner, isGradEnabled()]).toEqual([false, true]);
  });

  test("errors, sync and async, restore recording", async () => {
    const fail = () => {
      throw new Error("no");
    };
    expect(() => noGrad(fail)).toThrow("no");
    await expect(noGrad(async () => fail())).rejects.toThrow("no");
    expect(isGradEnabled()).toBe(true);
  });

  test("enableGrad within noGrad records, and the rest of noGrad does not", async () => {
    const seen = await noGrad(async () => {
      await sleep(1);
      const inside = await enableGrad(async () => {
        await sleep(1);
        return isGradEnabled();
      });
      return [inside, isGradEnabled()];
    });
    expect(seen).toEqual([true, false]);
  });
});

test("training beside an async noGrad has gradients, where the runtime tells flows apart", async () => {
  forgetFlows();
  const evaluation = noGrad(() => sleep(20));
  const p = parameter(3);
  const optimizer = new SGD([p], { lr: 0.5 });
  p.square().sum().backward();
  await optimizer.step();
  await evaluation;
  expect(await values(p)).toEqual([0]);
});

describe("data()", () => {
  test("gives the caller an array of its own", async () => {
    for (const x of [tensor([1, 2]).mul(2), tensor([2, 4]), parameter(2, 4)]) {
      const [a, b] = await Promise.all([x.data(), x.data()]);
      a[0] = 99;
      b[1] = 99;
      expect(await values(x)).toEqual([2, 4]);
      expect(await values(x.mul(1))).toEqual([2, 4]);
    }
  });

  test("that is not awaited before the next steps gives the values of its time", async () => {
    const p = parameter(...new Float32Array(5000).fill(1));
    const optimizer = new SGD([p], { lr: 0.25 });
    const reads: Promise<ArrayLike<number>>[] = [];
    for (let i = 0; i < 20; i++) {
      p.sum().backward();
      await optimizer.step();
      reads.push(p.data());
    }
    expect((await Promise.all(reads)).map((x) => x[4999])).toEqual(reads.map((_, i) => 1 - 0.25 * (i + 1)));
  });
});

describe("assign", () => {
  test("checks shape and dtype at the call", () => {
    const x = tensor([1, 2]);
    expect(() => assign(x, tensor([1, 2, 3]))).toThrow(/assign: .*f32 \[3\].*f32 \[2\]/);
    expect(() => assign(tensor([[1], [2]]), x)).toThrow(/assign/);
    expect(() => assign(x, tensor([5]))).toThrow(/assign/);
    expect(() => assign(x, tensor([1, 2], { dtype: "i32" }))).toThrow(/assign: .*i32/);
  });

  const cache = async (n: number) => {
    const c = tensor(
      Float32Array.from({ length: n }, (_, i) => i),
      { shape: [1, 1, n, 1] },
    );
    await flush(c);
    return c;
  };
  const at = (i: number) => tensor([i], { dtype: "i32" });

  test("writes a cache from a view of itself", async () => {
    const right = await cache(4);
    assign(right, writeAt(right, right.narrow(2, 0, 3), at(1)));
    expect(await values(right)).toEqual([0, 0, 1, 2]);
    const left = await cache(4);
    assign(left, writeAt(left, left.narrow(2, 1, 3).mul(2).add(1), at(0)));
    expect(await values(left)).toEqual([3, 5, 7, 3]);
  });

  test("keeps the old value for graphs built before, however late their kernel runs", async () => {
    const c = await cache(64);
    const before = c.mul(2); // fused into the kernel of `after`
    const sums = c.reshape([8, 8]).sum(1); // its epilogue runs later
    assign(c, writeAt(c, c.narrow(2, 0, 1).sub(100), at(1)));
    const after = before.add(1);
    const late = sums.mul(2);
    await flush(after, late); // runs the assignment too
    const [a, s] = [await values(after), await values(late)];
    expect(a.slice(0, 3)).toEqual([1, 3, 5]);
    expect(s.slice(0, 2)).toEqual([56, 184]);
    expect((await values(c)).slice(0, 3)).toEqual([0, -100, 2]);
  });
});

describe("an optimizer's step", () => {
  test("of two parameters with constant gradients", async () => {
    const [p, q] = [parameter(1, 1), parameter(1)];
    const optimizer = new SGD([p, q], { lr: 0.25 });
    p.sum().add(q.sum()).backward();
    await optimizer.step();
    expect([await values(p), await values(q)]).toEqual([[0.75, 0.75], [0.75]]);
  });

  test("that is not awaited takes the gradients of its time", async () => {
    const p = parameter(1);
    const optimizer = new SGD([p], { lr: 0.25 });
    p.mul(2).sum().backward();
    const first = optimizer.step();
    p.mul(4).sum().backward(); // for the second step
    await first;
    expect(await values(p)).toEqual([0.5]);
    await optimizer.step();
    expect(await values(p)).toEqual([-0.5]);
    expect(optimizer.steps).toBe(2);
  });

  test("twice at once is an error, not one gradient twice", async () => {
    const p = parameter(1);
    const optimizer = new SGD([p], { lr: 0.25 });
    p.sum().backward();
    const results = await Promise.allSettled([optimizer.step(), optimizer.step()]);
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    expect(await values(p)).toEqual([0.75]);
  });

  test("that fails leaves parameters, moments and gradients as they were", async () => {
    const train = async (spoil: boolean) => {
      const [p, spoilt] = [parameter(1, 2), tensor([1, 2])];
      const optimizer = new AdamW([p], { lr: 0.1 });
      for (let i = 0; i < 3; i++) {
        p.square().sum().backward();
        if (spoil && i === 1) {
          assign(spoilt, broken(spoilt));
          await expect(optimizer.step()).rejects.toThrow(/does not compile/);
          expect(optimizer.steps).toBe(1);
          expect(await values(spoilt)).toEqual([1, 2]);
        }
        await optimizer.step();
      }
      expect(optimizer.steps).toBe(3);
      return values(p);
    };
    expect(await train(true)).toEqual(await train(false));
  });

  test("whose rule throws assigns nothing", async () => {
    const [p, q] = [parameter(1), parameter(2)];
    const optimizer = new SGD([{ params: [p] }, { params: [q] }], { lr: 0.25 });
    p.sum().backward();
    await expect(optimizer.step()).rejects.toThrow(/no gradient/);
    expect([await values(p), p.grad !== null]).toEqual([[1], true]);
  });

  test("with a flush right after it", async () => {
    const p = parameter(1);
    const optimizer = new SGD([p], { lr: 0.25 });
    p.sum().backward();
    const step = optimizer.step();
    await flush(p, [p.mul(3)]);
    expect(await values(p)).toEqual([0.75]);
    await step;
  });

  test.each([SGD, AdamW])("with onNonFinite: %o", async (Rule) => {
    const run = async (onNonFinite: "error" | "skip" | undefined, bad: number) => {
      const [p, q] = [parameter(1, 1), parameter(1)];
      const optimizer = new Rule([p, q], { lr: 0.25, maxNorm: 1, onNonFinite });
      for (const factor of [1, bad, 1]) {
        p.square()
          .mul(tensor([factor, 1]))
          .sum()
          .add(q.square().sum())
          .backward();
        const step = optimizer.step();
        if (onNonFinite === "error" && factor !== 1) {
          await expect(step).rejects.toThrow(/step: 1 elements of the gradients are NaN or infinite at step 2/);
        } else await step;
      }
      return {
        values: [...(await values(p)), ...(await values(q))],
        steps: optimizer.steps,
        skipped: optimizer.skipped,
      };
    };
    const clean = await run("error", 1);
    for (const bad of [NaN, Infinity]) {
      const skipped = await run("skip", bad);
      expect(skipped).toMatchObject({ steps: 2, skipped: 1 });
      expect(await run("error", bad)).toEqual({ ...skipped, skipped: 0 });
      expect(skipped.values.every(Number.isFinite)).toBe(true);
    }
    expect(clean.steps).toBe(3);
    expect((await run(undefined, NaN)).values).toEqual([NaN, NaN, NaN]);
  });
});

test("flush takes tensors, lists of them, and names what it was given otherwise", async () => {
  const x = tensor([1]).add(1);
  await flush([x], x.mul(2));
  expect(() => flush({} as Tensor)).toThrow(/flush: expected tensors, got object/);
  expect(() => flush(undefined as unknown as Tensor)).toThrow(/flush: expected tensors, got undefined/);
});

test("tensors from before a second init() are a clear error, unless the host has their values", async () => {
  const [given, computed, p] = [tensor([1, 2]), tensor([1, 2]).add(1), parameter(1)];
  await flush(given, computed, p);
  const unread = tensor([5]).mul(2).data(); // on its way
  await openBackend();
  expect([...(await unread)]).toEqual([10]);
  expect(await values(given.add(1))).toEqual([2, 3]);
  if (!onGpu()) return;
  expect(() => computed.mul(2)).toThrow(/mul: a tensor of shape \[2\] lies on the device before init\(\)/);
  await expect(read(computed.node)).rejects.toThrow(/before init/);
  expect(() => assign(computed, tensor([1, 2]))).toThrow(/before init/);
});
