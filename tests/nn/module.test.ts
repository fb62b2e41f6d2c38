import { beforeAll, describe, expect, test } from "vitest";
import { Linear, Module, Sequential, withoutInit } from "../../src/nn/index.ts";
import { manualSeed, tensor } from "../../src/ops/functional.ts";
import { init } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

class Block extends Module {
  first = new Linear(3, 4);
  rest = [new Linear(4, 4, { bias: false }), new Linear(4, 2)];
  readonly #hidden = new Linear(9, 9);

  forward(x: Tensor): Tensor {
    return this.rest.reduce((y, layer) => layer.forward(y.relu()), this.first.forward(x));
  }
  get secret() {
    return this.#hidden;
  }
}

beforeAll(() => init({ backend: "reference" }));

const x = () => tensor([[1, -2, 0.5]]);

describe("Module", () => {
  test("names its tensors by field, list index and child, and leaves private fields out", () => {
    const names = ["first.weight", "first.bias", "rest.0.weight", "rest.1.weight", "rest.1.bias"];
    expect(Object.keys(new Block().stateDict())).toEqual(names);
    const sequential = new Sequential(new Linear(2, 2), (y) => y.relu(), new Linear(2, 1, { bias: false }));
    expect(Object.keys(sequential.stateDict())).toEqual(["0.weight", "0.bias", "2.weight"]);
  });

  test("lists a tensor that two names share once", () => {
    const block = new Block();
    block.rest[0].weight = block.rest[1].weight;
    expect(block.parameters().length).toBe(4);
  });

  test("the same seed gives the same weights, another seed others", async () => {
    const weights = async (seed: number) => {
      manualSeed(seed);
      return (await new Linear(5, 6).weight.data()).slice();
    };
    expect(await weights(1)).toEqual(await weights(1));
    expect(await weights(1)).not.toEqual(await weights(2));
    expect(Math.max(...(await weights(3)))).toBeLessThan(1 / Math.sqrt(5));
  });

  test("loads what another saved, and computes the same", async () => {
    const [a, b] = [new Block(), withoutInit(() => new Block())];
    expect([...(await b.first.weight.data())].every((v) => v === 0)).toBe(true);
    b.loadStateDict(a.stateDict());
    expect(await b.forward(x()).data()).toEqual(await a.forward(x()).data());
    expect(b.parameters().every((p) => p.requiresGrad)).toBe(true);
  });

  test("refuses a state that does not fit, naming everything, and changes nothing", async () => {
    const block = new Block();
    const before = await block.first.bias!.data();
    const state: Record<string, Tensor> = {
      ...new Block().stateDict(),
      extra: tensor([1]),
      "first.weight": tensor([[1, 2]]),
    };
    delete state["rest.1.bias"];
    expect(() => block.loadStateDict(state)).toThrow(
      "loadStateDict (Block): first.weight has shape [1,2], expected [4,3]; missing rest.1.bias [2]; unexpected extra [1]",
    );
    expect(await block.first.bias!.data()).toEqual(before);
  });

  test("freezing leaves no gradient, training mode reaches all children", () => {
    const block = new Block();
    block.first.requiresGrad_(false);
    block.forward(x()).sum().backward();
    expect(block.first.weight.grad).toBeNull();
    expect(block.rest[1].weight.grad).not.toBeNull();
    block.eval();
    expect([block.training, block.first.training, block.rest[1].training]).toEqual([false, false, false]);
  });
});

test("sizes are checked", () => {
  expect(() => new Linear(0, 4)).toThrow("Linear: inFeatures must be a positive integer, got 0");
  expect(() => new Linear(2.5, 4)).toThrow("got 2.5");
});
