import { describe, expect, test } from "vitest";
import { type Fusion, fuseWorthy } from "../../src/compile/worth.ts";
import { init, plan, rmsNorm, type Tensor, tensor } from "../../src/index.ts";
import { Node } from "../../src/node.ts";
import { normals } from "../kernels/harness.ts";

const random = (...shape: number[]): Tensor => tensor(normals(shape.reduce((a, b) => a * b, 1)), { shape });
const kernelsOf = async (...out: Tensor[]): Promise<string[]> =>
  (await plan(...out))!.text.split("\n").map((line) => line.trim().split(/\s+/)[1]);

describe("what a text of its own costs, against what it saves in 100 runs", () => {
  const core = (): Node => new Node({ name: "product", kind: "kernel" }, [], {}, [1], "f32");
  const fusion = (text: string, saved: number): Fusion => ({ core: core(), kernel: "matmul", plain: "", text, saved });
  const left = (fusions: Fusion[], used: string[], kind: "software" | "discrete" = "software"): number[] => {
    const judge = (apart: ReadonlySet<Node>) => fusions.filter((f) => !apart.has(f.core));
    const { value } = fuseWorthy(
      new Set(),
      { kind, fuse: true },
      (_, apart) => judge(apart),
      (fused) => ({ fusions: fused, used: new Set(fused.length < fusions.length ? ["", ...used] : used) }),
    );
    return value.map((f) => fusions.indexOf(f));
  };
  const ms = 2 ** 20 / 0.04; // flops
  const poor = 2.4 * ms;

  test("all dispatches of a text pay for it together", () => {
    expect(left([fusion("a", poor)], [""])).toEqual([]);
    expect(left([fusion("a", poor), fusion("a", poor)], [""])).toEqual([0, 1]);
    expect(left([fusion("a", poor), fusion("b", 9 * poor)], [""])).toEqual([1]);
  });

  test("a template that nothing else needs as it is: one text is swapped for another, two for one", () => {
    expect(left([fusion("a", poor)], [])).toEqual([0]);
    expect(left([fusion("a", poor / 9), fusion("b", poor / 9)], [])).toEqual([]);
    expect(left([fusion("a", poor), fusion("b", poor)], [])).toEqual([0, 1]);
  });

  test("GPUs fuse all", () => {
    expect(left([fusion("a", 1)], [""], "discrete")).toEqual([0]);
  });
});

describe("plans", () => {
  const [x, v, w, ones] = [random(64, 32), random(32, 32), random(32, 32), random(32)];
  /** A product as it is, and one with work behind it. */
  const two = (): Tensor => x.matmul(v).matmul(w).add(x);

  test("leave little work apart where the product is there without it", async () => {
    if ((await init())!.kind !== "software") return; // all is fused there
    expect(await kernelsOf(two())).toEqual([expect.stringMatching(/^mat/), expect.stringMatching(/^mat\w+$/), "add"]);
    expect(await kernelsOf(x.matmul(w).add(x))).toEqual([expect.stringMatching(/^mat\w+→add$/)]);
    expect(await kernelsOf(rmsNorm(rmsNorm(x, ones).add(x), ones))).toEqual(["norm", "add", "norm"]);
  });

  test("and with the same values", async () => {
    const values = async (): Promise<ArrayLike<number>> => two().data();
    await init();
    const apart = await values();
    await init({ fuse: "always" });
    expect(await kernelsOf(two())).toEqual([expect.stringMatching(/^mat/), expect.stringMatching(/^mat\w+→add$/)]);
    expect(await values()).toEqual(apart);
  });

  test("fuse large work, and work that comes often", async () => {
    await init();
    const large = random(2048, 256);
    const [p, q] = [random(256, 256), random(256, 256)];
    const often = (n: number): Tensor =>
      n === 0
        ? large.matmul(p)
        : often(n - 1)
            .matmul(q)
            .add(large);
    expect((await kernelsOf(often(1))).at(-1)).toBe("add");
    expect((await kernelsOf(often(4))).at(-1)).toMatch(/→add$/);
  });
});
