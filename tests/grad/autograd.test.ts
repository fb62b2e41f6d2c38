import { describe, expect, test } from "vitest";
import type { Node } from "../../src/graph/node.ts";
import {
  checkpoint,
  dropout,
  grad,
  isGradEnabled,
  linear,
  manualSeed,
  noGrad,
  scaledDotProductAttention,
  tensor,
} from "../../src/ops/functional.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { randomLeaf, valuesOf } from "../support/f64.ts";

const list = (t: Tensor | null): number[] => [...valuesOf(t!)];

/** All nodes that `root` depends on; the walk ends at nodes of op `stop`. */
function graph(root: Node, stop?: string): Set<Node> {
  const seen = new Set<Node>();
  const stack = [root];
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.op.name !== stop) stack.push(...node.src);
  }
  return seen;
}

describe("backward", () => {
  test("adds to the gradients that are there", () => {
    const x = tensor([1, 2], { requiresGrad: true });
    x.square().sum().backward();
    x.mul(3).sum().backward();
    expect(list(x.grad)).toEqual([5, 7]);
    x.grad = null;
    x.sum().backward();
    expect(list(x.grad)).toEqual([1, 1]);
  });

  test("reaches a tensor through all its uses", () => {
    const x = tensor([3], { requiresGrad: true });
    const y = x.mul(x);
    y.add(y.mul(x)).backward();
    expect(list(x.grad)).toEqual([2 * 3 + 3 * 9]);
  });

  test("takes a gradient for outputs of several elements", () => {
    const x = tensor([1, 2, 3], { requiresGrad: true });
    x.mul(2).backward(tensor([1, 10, 100]));
    expect(list(x.grad)).toEqual([2, 20, 200]);
    expect(() => x.mul(2).backward()).toThrow("a gradient is needed for an output of shape [3]");
    expect(() => x.mul(2).backward(tensor([1]))).toThrow("gradient [1] does not have the output's shape [3]");
  });

  test("leaves tensors that need no gradient alone", () => {
    const x = tensor([1], { requiresGrad: true });
    const frozen = tensor([2]);
    x.mul(frozen).backward();
    expect(frozen.grad).toBeNull();
    expect(() => frozen.mul(2).backward()).toThrow("does not require grad");
  });

  test("stops at detach, noGrad and integers", () => {
    const x = tensor([0.5], { requiresGrad: true });
    expect(x.detach().requiresGrad).toBe(false);
    expect(noGrad(() => x.mul(2)).requiresGrad).toBe(false);
    expect(x.gt(0).requiresGrad).toBe(false);
    expect(x.int().requiresGrad).toBe(false);
    x.mul(x.detach()).backward();
    expect(list(x.grad)).toEqual([0.5]);
  });

  test("noGrad spans an async function and ends with an error", async () => {
    await noGrad(async () => {
      await Promise.resolve();
      expect(isGradEnabled()).toBe(false);
    });
    expect(isGradEnabled()).toBe(true);
    expect(() =>
      noGrad(() => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(isGradEnabled()).toBe(true);
  });

  test("walks 50,000 operations deep", () => {
    const x = tensor([1], { requiresGrad: true });
    let y: Tensor = x;
    for (let i = 0; i < 50_000; i++) y = y.add(1e-5);
    y.sum().backward();
    expect(list(x.grad)).toEqual([1]);
    expect(list(y)[0]).toBeCloseTo(1 + 50_000 * Math.fround(1e-5), 9);
  });

  test("works after the value has been read", () => {
    const x = tensor([2], { requiresGrad: true });
    const y = x.square();
    expect(list(y)).toEqual([4]);
    y.backward();
    expect(list(x.grad)).toEqual([4]);
  });

  test("serves a leaf made by operations", () => {
    const w = tensor([1, 2]).mul(3).requiresGrad_();
    w.square().sum().backward();
    expect(list(w.grad)).toEqual([6, 12]);
  });

  test("a leaf can be frozen and thawed, other tensors cannot", () => {
    const x = tensor([1], { requiresGrad: true });
    const y = x.mul(2);
    expect(() => y.requiresGrad_(false)).toThrow("not a leaf");
    x.requiresGrad_(false);
    expect(x.mul(2).requiresGrad).toBe(false);
    expect(() => tensor([1], { dtype: "i32" }).requiresGrad_()).toThrow(
      "only float tensors have gradients, this is i32",
    );
  });

  test("an operation fails without touching the gradients", () => {
    const x = tensor([1], { requiresGrad: true });
    x.backward();
    expect(() => x.backward(tensor([1, 2]))).toThrow();
    expect(list(x.grad)).toEqual([1]);
    expect(isGradEnabled()).toBe(true);
  });
});

describe("grad", () => {
  test("gives gradients of inner tensors and leaves .grad alone", () => {
    const x = tensor([2], { requiresGrad: true });
    const y = x.square();
    const [gy, gx] = grad(y.mul(3), [y, x]);
    expect([list(gy), list(gx)]).toEqual([[3], [12]]);
    expect(x.grad).toBeNull();
  });

  test("of gradients of gradients", () => {
    const x = tensor([1.5], { requiresGrad: true });
    let y = x.pow(4);
    for (const want of [4 * 1.5 ** 3, 12 * 1.5 ** 2, 24 * 1.5]) {
      y = grad(y, [x], { createGraph: true })[0];
      expect(list(y)[0]).toBeCloseTo(want, 4);
    }
  });

  test("says which input is unused", () => {
    const [x, z] = [tensor([1], { requiresGrad: true }), tensor([1], { requiresGrad: true })];
    expect(() => grad(x.mul(2), [x, z])).toThrow("does not depend on input 1");
    expect(grad(x.mul(2), [x, z], { allowUnused: true })[1]).toBeNull();
  });

  test("without createGraph has no history", () => {
    const x = tensor([1], { requiresGrad: true });
    expect(grad(x.square(), [x])[0].requiresGrad).toBe(false);
  });
});

describe("checkpoint", () => {
  const [w, v] = [randomLeaf([4, 4], -1, 1, 2), randomLeaf([4, 4], -1, 1, 3)];
  const block = (x: Tensor): Tensor => linear(linear(x, w).gelu(), v).add(x);

  test("gives the same value and gradients, of captured parameters too", () => {
    const run = (f: (x: Tensor) => Tensor): number[][] => {
      const x = randomLeaf([2, 4]);
      const y = f(f(x)).square().mean();
      return [y, ...grad(y, [x, w, v])].map((t) => list(t));
    };
    const [plain, saved] = [run(block), run((x) => checkpoint(block, x))];
    saved.flat().forEach((g, i) => expect(g).toBeCloseTo(plain.flat()[i], 12));
  });

  test("computes its intermediates again, after the gradient has arrived", () => {
    const x = randomLeaf([2, 4]);
    const named = (name: string, root: Tensor): Node[] => [...graph(root.node)].filter((n) => n.op.name === name);
    const y = checkpoint(block, x).square().mean();
    const [g] = grad(y, [w]);
    expect(named("gelu", y)).toHaveLength(1);
    expect(named("gelu_slope", g)).toHaveLength(1);
    expect(named("after", g)).toHaveLength(1);
    // The second run reads x through a node that waits for the gradient.
    const second = graph(named("gelu_slope", g)[0], "after");
    expect([...second].filter((n) => n.op.name === "after").map((n) => n.src[0])).toEqual([x.node]);
    expect(second.has(x.node)).toBe(false);
  });

  test("repeats its random numbers", () => {
    manualSeed(3);
    const x = randomLeaf([64], 1, 2);
    const y = checkpoint((t) => dropout(t, 0.5), x);
    const [value, slope] = [list(y), list(grad(y.sum(), [x])[0])];
    expect(slope.map((s, i) => s * valuesOf(x)[i])).toEqual(value);
    expect(new Set(slope)).toEqual(new Set([0, 2]));
  });

  test("is plain where nothing needs a gradient", () => {
    const x = tensor([1, 2]);
    expect(checkpoint((t) => t.mul(2), x).requiresGrad).toBe(false);
  });
});

test("a fused op without a derivative of its own takes its fallback's", () => {
  const x = randomLeaf([2, 1, 3, 2]);
  const bias = randomLeaf([1, 1, 3, 3]);
  const y = scaledDotProductAttention(x, x, x, { bias }).sum();
  expect(list(grad(y, [bias])[0]).some((g) => g !== 0)).toBe(true);
});
