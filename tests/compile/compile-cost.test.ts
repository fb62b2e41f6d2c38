import { describe, expect, test } from "vitest";
import { type Fusion, judgement, keepWorthwhile } from "../../src/compile/schedule/compile-cost.ts";
import { Node } from "../../src/graph/node.ts";
import { init, type Tensor, tensor } from "../../src/index.ts";
import { kernelLabels } from "../support/plans.ts";
import { normals } from "../support/random.ts";
import { random } from "../support/tensors.ts";

describe("the compile time of a distinct shader, against what fusing saves in 50 runs", () => {
  const core = (): Node => new Node({ name: "product", kind: "kernel" }, [], {}, [1], "f32");
  const call = { kernel: "matmul", dims: [], bind: [], grid: [1, 1, 1], compileMs: 250 } as const;
  const fusion = (shader: string, saved: number): Fusion => ({ core: core(), call, plain: "", shader, saved });
  const left = (
    fusions: Fusion[],
    used: string[],
    kind: "software" | "discrete" = "software",
    work = Infinity,
  ): number[] => {
    const judge = (apart: ReadonlySet<Node>) => fusions.filter((f) => !apart.has(f.core));
    const { value } = keepWorthwhile(
      new Set(),
      judgement(kind, true, work),
      (_, apart) => judge(apart),
      (fused) => ({ fusions: fused, used: new Set(fused.length < fusions.length ? ["", ...used] : used) }),
    );
    return value.map((f) => fusions.indexOf(f));
  };
  const ms = 2 ** 20 / 0.04; // flops
  const poor = 4.8 * ms;

  test("all dispatches of a shader pay for it together", () => {
    expect(left([fusion("a", poor)], [""])).toEqual([]);
    expect(left([fusion("a", poor), fusion("a", poor)], [""])).toEqual([0, 1]);
    expect(left([fusion("a", poor), fusion("b", 9 * poor)], [""])).toEqual([1]);
  });

  test("a plain template that nothing else needs: one shader replaces another, two replace one", () => {
    expect(left([fusion("a", poor)], [])).toEqual([0]);
    expect(left([fusion("a", poor / 9), fusion("b", poor / 9)], [])).toEqual([]);
    expect(left([fusion("a", poor), fusion("b", poor)], [])).toEqual([0, 1]);
  });

  test("work that stays unfused costs at most 1.5 % of a run", () => {
    const fusions = [fusion("a", 2), fusion("b", 1), fusion("c", 3)];
    expect(left(fusions, [""], "software", 400)).toEqual([]);
    expect(left(fusions, [""], "software", 399)).toEqual([2]);
    expect(left(fusions, [""], "software", 134)).toEqual([0, 2]);
    expect(left(fusions, [], "software", 134)).toEqual([0, 1, 2]);
  });

  test("GPUs fuse all", () => {
    expect(left([fusion("a", 1)], [""], "discrete")).toEqual([0]);
  });
});

describe("plans", () => {
  const [x, v] = [random([256, 512]), normals(512 * 512).map((y) => y / 16)];
  /** Products of one shape, the last with an epilogue. */
  const chain = (count: number): Tensor => {
    let y = x;
    for (let i = 0; i < count; i++) y = y.matmul(tensor(v, { shape: [512, 512] }));
    return y.add(x);
  };

  test("leave little work unfused where the plain product is compiled anyway", async ({ skip }) => {
    skip((await init())!.kind !== "software", "everything is fused on this adapter");
    expect((await kernelLabels(chain(7))).at(-1)).toBe("add");
    expect((await kernelLabels(chain(1))).at(-1)).toMatch(/^mat\w+→add$/);
    expect((await kernelLabels(chain(2))).at(-1)).toMatch(/^mat\w+→add$/); // more than 1.5 % of the run
  });

  test("and with the same values", async () => {
    await init();
    const apart = await chain(7).data();
    await init({ fuse: "always" });
    expect((await kernelLabels(chain(7))).at(-1)).toMatch(/^mat\w+→add$/);
    expect(await chain(7).data()).toEqual(apart);
  });
});
