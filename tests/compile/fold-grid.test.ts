/** Grids beyond 65,535 workgroups in a dim. */
import { beforeAll, describe, expect, test } from "vitest";
import { foldGrid } from "../../src/compile/codegen/fold-grid.ts";
import {
  init,
  layerNorm,
  rope,
  sample,
  scaledDotProductAttention,
  type Tensor,
  tensor,
  writeAt,
  zeros,
} from "../../src/index.ts";

const N = 70_000;
const ramp = (shape: number[]) =>
  tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => i % 1000),
    { shape },
  );

/** Number of elements that differ from i mod 1000. */
async function wrong(x: Tensor): Promise<number> {
  const bad = Array.from(await x.data(), (v, i) => !(Math.abs(v - (i % 1000)) <= 1e-5 * (i % 1000)));
  return bad.filter(Boolean).length;
}

beforeAll(async () => void (await init({ backend: "webgpu", tune: false })));

describe("ops", () => {
  test.each([
    [N, 1, 1, 2],
    [1, N, 1, 2],
  ])("attention over [%i, %i, %i, %i], and its gradients", async (...shape) => {
    const [q, k, v] = [0, 1, 2].map(() => ramp(shape).requiresGrad_());
    const o = scaledDotProductAttention(q, k, v); // one key: its value
    expect(await wrong(o)).toBe(0);
    o.backward(ramp(shape));
    expect(await wrong(v.grad!)).toBe(0);
    expect(Array.from(await q.grad!.data()).every((x) => x === 0)).toBe(true);
  });

  test("attention of 1.1 million queries", async () => {
    const x = ramp([1, 1, 1_100_000, 2]);
    const y = await scaledDotProductAttention(x, x.narrow(2, 0, 1), x.narrow(2, 1, 1)).data();
    expect(y.findIndex((v, i) => v !== 2 + (i % 2))).toBe(-1);
  });

  test("writes into a cache, rotations, sampling and rows", async () => {
    const at = tensor([0], { dtype: "i32" });
    expect(await wrong(writeAt(zeros(N, 1, 1, 2), ramp([N, 1, 1, 2]), at))).toBe(0);
    expect(await wrong(writeAt(zeros(1, N, 1, 2), ramp([1, N, 1, 2]), at))).toBe(0);
    expect(await wrong(rope(ramp([N, 1, 1, 2]), at))).toBe(0);
    const logits = tensor(
      Float32Array.from({ length: 2 * N }, (_, i) => (i % 2) * 5),
      { shape: [N, 2] },
    );
    expect(
      await sample(logits, tensor([[0, 0, 1, 0]]), tensor(new Float32Array(N)))
        .ne(1)
        .sum()
        .item(),
    ).toBe(0);
    const sums = await tensor(new Float32Array(5_000_000).fill(1), { shape: [5_000_000 / 4, 4] })
      .sum(1)
      .data();
    expect(sums.findIndex((x) => x !== 4)).toBe(-1);
    const normed = await layerNorm(ramp([5_000_000 / 4, 4]), [4]).data();
    expect(normed.findIndex((x, i) => Math.abs(x - [-1.3416, -0.4472, 0.4472, 1.3416][i % 4]) > 1e-3)).toBe(-1);
  });
});

describe("kernels of users", () => {
  test.each(["workgroup_id", "global_invocation_id"])("by %s", async (by) => {
    const id = by === "workgroup_id" ? "group.z * groups.y + group.y" : "id.z * 2u + id.y";
    const params =
      by === "workgroup_id"
        ? "@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u"
        : "@builtin(global_invocation_id) id: vec3u";
    const code = foldGrid({
      label: "own",
      bind: [],
      grid: [1, 2, N],
      code: `@compute @workgroup_size(1)\nfn main(${params}) {\n  let at = ${id};\n}`,
    });
    expect(code.grid).toEqual([65_535, 3, 1]);
    const { gpu } = (await import("../../src/runtime/session.ts")).currentDevice()!;
    gpu.pushErrorScope("validation");
    gpu.createShaderModule({ code: code.code });
    expect((await gpu.popErrorScope())?.message).toBeUndefined();
  });

  test("a grid within the limit stays as it is", () => {
    const own = { label: "own", bind: [], grid: [65_535, 1, 1] as const, code: "" };
    expect(foldGrid(own)).toBe(own);
    expect(() => foldGrid({ ...own, grid: [70_000, 65_535, 1] })).toThrow(/own: 70000 x 65535 x 1 workgroups: at most/);
  });
});
