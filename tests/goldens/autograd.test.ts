import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { openBackend } from "../support/backend.ts";
import { functions } from "./autograd-table.ts";
import { listCases, mismatch, openCase, skipIfNone } from "./cases.ts";
import type { Inputs } from "./ops-table.ts";

const dot = (a: readonly Tensor[], b: readonly Tensor[]): Tensor =>
  a.map((x, i) => x.mul(b[i]).sum()).reduce((sum, x) => sum.add(x));

/** The gradient of y for x; zeros where y does not depend on it. */
const slope = (y: Tensor, x: Tensor): Tensor =>
  (y.requiresGrad ? sg.grad(y, [x], { createGraph: true, allowUnused: true })[0] : null) ?? sg.zeros([...x.shape]);

/** dy/dx of every element of y: [y..., x...]. */
function jacobian(y: Tensor, x: Tensor): Tensor {
  const flat = y.reshape([y.numel]);
  const rows = Array.from({ length: y.numel }, (_, i) => slope(flat.select(0, i), x));
  return sg.stack(rows).reshape([...y.shape, ...x.shape]);
}

/** The quantities of the case's README, by the name of the stored output: "grad.x", "hessian.x.y", "jvp". */
function quantity(name: string, f: (x: Inputs) => Tensor, x: Inputs, wrt: readonly string[]): Tensor {
  const [what, a, b] = name.split(".");
  const y = f(x);
  const leaves = wrt.map((key) => x[key]);
  const directions = wrt.map((key) => x[`v.${key}`]);
  switch (what) {
    case "value":
      return y;
    case "grad":
      return slope(y, x[a]);
    case "hvp":
      return slope(
        dot(
          leaves.map((leaf) => slope(y, leaf)),
          directions,
        ),
        x[a],
      );
    case "hessian":
      return jacobian(slope(y, x[a]), x[b]);
    case "jacobian":
      return jacobian(y, x[a]);
    case "vjp":
      return slope(dot([y], [x.u]), x[a]);
    case "jvp": {
      // Linear in the cotangent: its gradient for the cotangent is the product with the tangents.
      const cotangent = sg.zeros([...y.shape]).requiresGrad_();
      const pulled = leaves.map((leaf) => slope(dot([y], [cotangent]), leaf));
      return slope(dot(pulled, directions), cotangent);
    }
    case "first":
    case "second":
    case "third": {
      const times = ["first", "second", "third"].indexOf(what) + 1;
      let g = y;
      for (let i = 0; i < times; i++) g = slope(g.sum(), leaves[0]);
      return g;
    }
    default:
      throw new Error(`unknown quantity ${name}`);
  }
}

const cases = listCases("autograd").filter(({ name }) => functions[name]);
skipIfNone("derivatives", cases);

describe.each(cases)("autograd/$name", ({ name, path, json }) => {
  beforeAll(openBackend);

  test("values and derivatives", async () => {
    const [given, outputs] = [await openCase(path, "inputs"), await openCase(path, "outputs")];
    const x: Inputs = {};
    for (const key of given.names) {
      const { data, shape, dtype } = await given.read(key);
      const short = key.replace("run/", "");
      x[short] = sg.tensor(data, { shape, dtype });
      if (json.wrt.includes(short)) x[short].requiresGrad_();
    }
    const problems: string[] = [];
    for (const key of outputs.names) {
      const got = quantity(key.replace("run/", ""), functions[name], x, json.wrt);
      const want = await outputs.read(key);
      expect(got.shape, key).toEqual(want.shape);
      const problem = mismatch(await got.data(), want.data, json.tol.out);
      if (problem) problems.push(`${key}: ${problem}`);
    }
    expect(outputs.names.length).toBeGreaterThan(1);
    expect(problems).toEqual([]);
  });
});
