import { beforeAll, describe, expect, test } from "vitest";
import {
  FrozenBatchNorm2d,
  Linear,
  Module,
  ModuleDict,
  ModuleList,
  ParameterDict,
  ParameterList,
  parameter,
  Sequential,
  withoutInit,
} from "../../src/nn/index.ts";
import { manualSeed, ones, tensor, zeros } from "../../src/ops/functional.ts";
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

class Counter extends Module {
  scale = parameter(ones(2));
  count!: Tensor;
  scratch!: Tensor;

  constructor() {
    super();
    this.registerBuffer("count", zeros([2]));
    this.registerBuffer("scratch", zeros([3]), { persistent: false });
  }
  forward(x: Tensor, bias: Tensor): Tensor {
    return x.mul(this.scale).add(bias);
  }
}

describe("buffers", () => {
  test("are state, but no parameters; those that do not persist are not in the state dict", async () => {
    const nested = new Sequential(new FrozenBatchNorm2d(1));
    expect(nested.parameters()).toEqual([]);
    expect(Object.keys(nested.stateDict())).toEqual(["0.weight", "0.bias", "0.running_mean", "0.running_var"]);
    const counter = new Counter();
    expect([...counter.namedParameters()].map(([name]) => name)).toEqual(["scale"]);
    expect([...counter.namedBuffers("c")].map(([name]) => name)).toEqual(["c.count", "c.scratch"]);
    expect(Object.keys(counter.stateDict())).toEqual(["scale", "count"]);
    counter.requiresGrad_();
    expect(counter.buffers().some((b) => b.requiresGrad)).toBe(false);
    counter.count = tensor([1, 2]); // stays a buffer
    expect(counter.buffers()[0]).toBe(counter.count);
    counter.loadStateDict({ scale: tensor([3, 4]), count: tensor([5, 6]) });
    expect(await counter.count.tolist()).toEqual([5, 6]);
  });

  test("refuse names that other fields have, and names with dots", () => {
    const counter = new Counter();
    expect(() => counter.registerBuffer("scale", zeros(1))).toThrow(
      "registerBuffer (Counter): the field scale exists already",
    );
    expect(() => counter.registerBuffer("a.b", zeros(1))).toThrow('expected a name without dots, got "a.b"');
    expect(() => counter.registerBuffer("x", 3 as never)).toThrow("expected a Tensor or null as x, got number");
  });
});

describe("the tree", () => {
  test("children, modules and apply visit a shared module once", () => {
    const shared = new Linear(2, 2);
    const tree = new Sequential(shared, new Sequential(shared, new Linear(2, 1)), shared);
    expect([...tree.namedChildren()].map(([name]) => name)).toEqual(["0", "1"]);
    expect([...tree.children()][0]).toBe(shared);
    expect([...tree.namedModules("net")].map(([name]) => name)).toEqual(["net", "net.0", "net.1", "net.1.1"]);
    expect([...tree.modules()].length).toBe(4);
    const order: string[] = [];
    tree.apply((module) => void order.push(module.constructor.name));
    expect(order).toEqual(["Linear", "Linear", "Sequential", "Sequential"]);
  });

  test("loading leniently lists what differs", () => {
    const layer = new Linear(1, 1);
    const difference = layer.loadStateDict({ weight: tensor([[2]]), extra: tensor([1]) }, { strict: false });
    expect(difference).toEqual({ missingKeys: ["bias"], unexpectedKeys: ["extra"] });
  });

  test("to casts parameters and buffers in place, and training goes on", async () => {
    const counter = new Counter();
    const { scale } = counter;
    counter
      .forward(tensor([1, 2]), tensor([0, 0]))
      .sum()
      .backward();
    counter.to("f16");
    expect([counter.scale, scale.dtype, counter.count.dtype, scale.grad]).toEqual([scale, "f16", "f16", null]);
    counter
      .forward(tensor([1, 2]).half(), tensor([1, 1]).half())
      .sum()
      .backward();
    expect(await scale.grad!.tolist()).toEqual([1, 2]);
    counter.zeroGrad();
    expect(scale.grad).toBeNull();
    expect(() => counter.to("i32" as never)).toThrow('to (Counter): expected "f32" or "f16", got "i32"');
  });

  test("hooks see typed arguments, before and after, and go in any order", async () => {
    const counter = new Counter();
    const plain = counter.forward;
    const before = counter.registerForwardPreHook((module, [x, bias]) => [x.mul(module.count.add(2)), bias]);
    const after = counter.registerForwardHook((_, [x], y) => y.add(x));
    expect(await counter.forward(tensor([1, 2]), tensor([10, 10])).tolist()).toEqual([14, 18]);
    before.remove();
    expect(await counter.forward(tensor([1, 2]), tensor([10, 10])).tolist()).toEqual([12, 14]);
    after.remove();
    expect(counter.forward).toBe(plain);
  });
});

describe("containers", () => {
  test("name their elements as torch does", async () => {
    const list = new ModuleList([new Linear(1, 1, { bias: false })]).append(new Linear(1, 1, { bias: false }));
    const dict = new ModuleDict({ a: new Linear(1, 2), b: new Sequential() });
    expect(Object.keys(list.stateDict())).toEqual(["0.weight", "1.weight"]);
    expect(Object.keys(dict.stateDict())).toEqual(["a.weight", "a.bias"]);
    expect(dict.get("a").outFeatures).toBe(2); // the type of this element
    expect([dict.keys(), dict.has("b"), dict.values().length, dict.entries()[1][0]]).toEqual([
      ["a", "b"],
      true,
      2,
      "b",
    ]);
    const tensors = new ParameterList([parameter(ones(2))]);
    expect(Object.keys(tensors.stateDict())).toEqual(["0"]);
    const named = new ParameterDict({ gain: parameter(ones(3)) });
    expect(named.get("gain").shape).toEqual([3]);
    expect([...list].length + list.length + tensors.length).toBe(5);
    const replaced = new Linear(3, 3);
    list.replaceChild("1", replaced);
    dict.replaceChild("a", new Linear(1, 5));
    expect([list.at(-1), dict.get("a").outFeatures]).toEqual([replaced, 5]);
  });

  test("refuse what does not belong into them", () => {
    expect(() => new ModuleList([3 as never])).toThrow(
      "ModuleList: a value of type number does not belong into this list",
    );
    expect(() => new ParameterList([new Linear(1, 1) as never])).toThrow("ParameterList");
    expect(() => new ModuleList().at(0)).toThrow("ModuleList: no element 0 in a list of 0");
    expect(() => new ModuleDict({ a: new Linear(1, 1) }).get("b" as never)).toThrow('no element "b"; there are a');
    expect(() => new ModuleDict({ "a.b": new Linear(1, 1) })).toThrow(
      'ModuleDict: expected names without dots, got "a.b"',
    );
  });
});

test("sizes are checked", () => {
  expect(() => new Linear(0, 4)).toThrow("Linear: inFeatures must be a positive integer, got 0");
  expect(() => new Linear(2.5, 4)).toThrow("got 2.5");
});
