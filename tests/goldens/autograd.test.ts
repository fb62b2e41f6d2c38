import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { openBackend } from "../support/backend.ts";
import { functions } from "./autograd-table.ts";
import { listCases, mismatch, openCase, skipIfNone } from "./cases.ts";
import type { Inputs } from "./ops-table.ts";

/** The gradient of y for x; zeros where y does not depend on it. */
const slope = (y: Tensor, x: Tensor): Tensor =>
  (y.requiresGrad ? sg.grad(y, [x], { createGraph: true, allowUnused: true })[0] : null) ?? sg.zeros([...x.shape]);

/** The quantities of the case's README, by the name of the stored output: "grad.x", "hessian.x.y", "jvp". */
function quantity(name: string, f: (x: Inputs) => Tensor, x: Inputs, wrt: readonly string[]): Tensor {
  const [what, a, b] = name.split(".");
  const leaves = wrt.map((key) => x[key]);
  const directions = wrt.map((key) => x[`v.${key}`]);
  const [i, j] = [a, b].map((key) => wrt.indexOf(key));
  const of = (...t: Tensor[]): Tensor => f({ ...x, ...Object.fromEntries(wrt.map((key, k) => [key, t[k]])) });
  switch (what) {
    case "value":
      return f(x);
    case "grad":
      return slope(f(x), x[a]);
    case "hvp":
      return sg.hvp(of, leaves, directions).products[i];
    case "hessian":
      return sg.hessian(of, leaves)[i][j];
    case "jacobian":
      return sg.jacobian(of, leaves)[i];
    case "vjp":
      return sg.vjp(of, leaves, x.u).gradients[i];
    case "jvp":
      return sg.jvp(of, leaves, directions).tangent;
    case "first":
    case "second":
    case "third": {
      const times = ["first", "second", "third"].indexOf(what) + 1;
      let g = f(x);
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
