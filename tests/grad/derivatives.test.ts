/** vjp, jvp, jacobian, hessian, hvp and hooks, against derivatives by hand. */
import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";

const backends = ["reference", "webgpu"] as const;
const values = async (t: sg.Tensor): Promise<number[]> => Array.from(await t.data());
const near = async (t: sg.Tensor, want: readonly number[]): Promise<void> => {
  const got = await values(t);
  expect(got.length).toBe(want.length);
  for (const [i, x] of got.entries()) expect(x).toBeCloseTo(want[i], 4);
};

describe.each(backends)("derivatives on %s", (backend) => {
  beforeAll(async () => void (await sg.init({ backend })));
  const x = (): sg.Tensor => sg.tensor([1, 2, 3]);

  test("vjp gives output and gradients, and leaves .grad alone", async () => {
    const input = x().requiresGrad_();
    const { output, gradients } = sg.vjp((t) => t.square(), [input], sg.tensor([1, 10, 100]));
    await near(output, [1, 4, 9]);
    await near(gradients[0], [2, 40, 600]);
    expect(input.grad).toBeNull();
    expect(gradients[0].requiresGrad).toBe(false);
  });

  test("jvp of two inputs", async () => {
    const a = sg.tensor([4, 5, 6]);
    const { output, tangent } = sg.jvp((s, t) => s.mul(t), [x(), a], [sg.tensor([1, 0, 2]), sg.tensor([0, 1, 1])]);
    await near(output, [4, 10, 18]);
    await near(tangent, [4, 2, 15]); // a * dx + x * da
  });

  test("jacobian of one input and of several", async () => {
    const j = sg.jacobian((t) => t.square().sum().unsqueeze(0), x());
    expect(j.shape).toEqual([1, 3]);
    await near(j, [2, 4, 6]);
    const [first, second] = sg.jacobian((s, t) => s.mul(t.sum()), [x(), sg.tensor([2, 5])]);
    expect([first.shape, second.shape]).toEqual([
      [3, 3],
      [3, 2],
    ]);
    await near(first, [7, 0, 0, 0, 7, 0, 0, 0, 7]);
    await near(second, [1, 1, 2, 2, 3, 3]);
  });

  test("jacobian of a function that does not depend on its input is zero", async () => {
    await near(
      sg.jacobian(() => sg.tensor([1, 2]), x()),
      [0, 0, 0, 0, 0, 0],
    );
  });

  test("hessian and hvp of a cubic", async () => {
    const cubic = (t: sg.Tensor): sg.Tensor => t.pow(3).sum();
    await near(sg.hessian(cubic, x()), [6, 0, 0, 0, 12, 0, 0, 0, 18]);
    const { products } = sg.hvp(cubic, [x()], [sg.tensor([1, 2, 3])]);
    await near(products[0], [6, 24, 54]);
    const mixed = sg.hessian((s, t) => s.mul(t).sum(), [sg.tensor([2]), sg.tensor([3])]);
    await near(mixed[0][1], [1]);
    await near(mixed[0][0], [0]);
  });

  test("with createGraph a jacobian can be differentiated for its input", async () => {
    const input = x().requiresGrad_();
    const j = sg.jacobian((t) => t.pow(3), input, { createGraph: true });
    j.sum().backward();
    await near(input.grad!, [6, 12, 18]);
  });

  test("hooks see the gradient of leaves and of intermediates, and may replace it", async () => {
    const leaf = x().requiresGrad_();
    const middle = leaf.mul(2);
    const seen: sg.Tensor[] = [];
    const handle = middle.registerHook((g) => {
      seen.push(g);
      return undefined;
    });
    middle.registerHook((g) => g.mul(10));
    const twice = leaf.registerHook((g) => g.add(1));
    middle.square().sum().backward(undefined);
    await near(seen[0], [4, 8, 12]);
    await near(leaf.grad!, [81, 161, 241]);
    handle.remove();
    twice.remove();
    leaf.grad = null;
    middle.sum().backward();
    expect(seen.length).toBe(1);
    await near(leaf.grad!, [20, 20, 20]);
  });

  test("isLeaf", () => {
    const leaf = x().requiresGrad_();
    expect([leaf.isLeaf, leaf.mul(2).isLeaf, x().mul(2).isLeaf, leaf.detach().isLeaf]).toEqual([
      true,
      false,
      true,
      true,
    ]);
  });

  test("wrong calls name the function and the shapes", () => {
    expect(() => sg.vjp((t) => t, [x()])).toThrow(/vjp: the output \[3\]/);
    expect(() => sg.vjp((t) => t, [x()], sg.tensor([1]))).toThrow(/vjp: v \[1\] must have the shapes \[3\]/);
    expect(() => sg.jvp((t) => t, [x()], [])).toThrow(/jvp: tangents/);
    expect(() => sg.hessian((t) => t, x())).toThrow(/hessian: .*\[3\]/);
    expect(() => x().registerHook(() => undefined)).toThrow(/does not require grad/);
    const leaf = x().requiresGrad_();
    leaf.registerHook(() => sg.tensor([1]));
    expect(() => leaf.sum().backward()).toThrow(/a hook returned \[1\] for a gradient \[3\]/);
    expect(() => sg.jacobian((t) => t, x(), { create: true } as object)).toThrow(/unknown option create/);
  });
});
