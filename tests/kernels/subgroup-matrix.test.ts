import { describe, expect, test } from "vitest";
import { kernelSource } from "../../kernels/index.ts";
import { specialize } from "../../src/compile/codegen/template.ts";
import { compile } from "../../src/compile/compile.ts";
import { collect } from "../../src/graph/collect.ts";
import type { DeviceInfo, MatrixUnit } from "../../src/graph/device-info.ts";
import { toHalf } from "../../src/graph/dtype.ts";
import { contiguousStrides, numel } from "../../src/graph/shape.ts";
import { plan } from "../../src/index.ts";
import { lowerMatmul } from "../../src/lowering/matmul.ts";
import { matrixParams } from "../../src/lowering/matrix-units.ts";
import { quantize, quantizedLinear } from "../../src/nn/index.ts";
import { tensor } from "../../src/ops/functional.ts";
import type { Device } from "../../src/runtime/device.ts";
import { init } from "../../src/runtime/engine.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { Tuner } from "../../src/runtime/tuner/tuner.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { product } from "../support/reference.ts";
import { lowerOp, open, refusal, runTwice, type Source, submit } from "./harness.ts";

const F32: MatrixUnit = { component: "f32", M: 8, N: 8, K: 8 }; // Apple
const UNITS: MatrixUnit[] = [
  F32,
  { component: "f16", M: 8, N: 8, K: 8 },
  { component: "f16", M: 16, N: 16, K: 16 }, // tensor cores
  { component: "f16", M: 8, N: 16, K: 16 }, // XMX
];

describe("valid WGSL, by the compiler of Dawn's null backend, which lists the feature", () => {
  test.each(UNITS)("%o", async (unit) => {
    for (const rows of [32, 64])
      for (const [A_VEC, B_VEC] of [
        [0, 0],
        [1, 1],
        [2, 2],
      ]) {
        const types = { A: A_VEC ? "vec4f" : "f32", B: B_VEC ? "vec4f" : "f32" };
        // Its largest subgroups are of 128.
        const params = { ...matrixParams(unit, 128, { rows, columns: 32 }), A_VEC, B_VEC, ...types };
        expect(await refusal(specialize(kernelSource("matmul_subgroup_matrix"), { params }), true)).toBeUndefined();
      }
  });

  test("and a wrong one is refused", async () => {
    const params = { ...matrixParams(F32, 128, { rows: 32, columns: 32 }), Left: "subgroup_matrix_left<f32, 8, 16>" };
    expect(await refusal(specialize(kernelSource("matmul_subgroup_matrix"), { params }), true)).toContain(
      "no matching call to 'subgroupMatrixMultiplyAccumulate",
    );
  });
});

/**
 * The kernel with its subgroup matrices written out: matrices of operands are places in workgroup memory, results lie spread
 * over the lanes. Loops end where the uniform says, so that no driver unrolls them.
 */
function emulated(code: string): string {
  const each = (body: string): string =>
    `for (var t = 0u; t < min(SM * SN / SG, dims.slices + 999u); t++) { let e = own + t * SG; ${body} }`;
  const sum = "next[t] += f32(tile_a[x + e / SN * KS + k]) * f32(tile_b[y + k * COLUMNS + e % SN]);";
  const hooks = {
    load_left: "return at;",
    load_right: "return at;",
    multiply: `var next = sum; ${each(`for (var k = 0u; k < min(SK, dims.slices + 999u); k++) { ${sum} }`)} return next;`,
    store: `var values = x; ${each("tile_c[at + e / SN * COLUMNS + e % SN] = values[t];")}`,
  };
  return specialize(code, { hooks, helpers: "var<private> own: u32;" })
    .replace("enable chromium_experimental_subgroup_matrix;", "")
    .replace(/alias (Left|Right) = .*;/g, "alias $1 = u32;")
    .replace(/alias Result = .*;/, "alias Result = array<f32, SM * SN / SG>;")
    .replace("let tile = group.y", "own = lane;\n  let tile = group.y");
}

function stored(shape: readonly [number, number], seed: number, transposed: boolean, offset = 0): Source {
  const [rows, columns] = shape;
  return {
    data: normals(rows * columns + offset, seed),
    shape,
    offset,
    strides: transposed ? [1, rows] : contiguousStrides(shape),
  };
}

describe("with subgroup matrices written out", () => {
  test.each([
    // scalars, both along k and n, both along m and n in tiles of 64 rows, both along k and split, scalars of transposed
    [9, 1, 1, false, false, 0],
    [70, 36, 44, false, false, 0],
    [72, 36, 44, true, false, 1],
    [33, 35, 1100, false, true, 0],
    [70, 35, 43, true, true, 0],
  ])(
    "f32 units, M %i N %i K %i, A transposed %s, B transposed %s, candidate %i",
    async (M, N, K, at, bt, candidate) => {
      const [a, b] = [stored([M, K], 1, at), stored([K, N], 2, bt)];
      const spec = { shape: [M, N], dtype: "f32" as const };
      const options = { info: { matrixUnits: [F32], f16: true }, candidate, rewrite: emulatedIn };
      const [got] = await runTwice(lowerMatmul, [a, b], {}, spec, options);
      expect(worstError(got, product(a, b))).toBeLessThan(2e-6 * (1 + Math.sqrt(K)));
      const { calls } = await lowerOp(lowerMatmul, [a, b], {}, spec, options);
      expect(calls.map((c) => c.kernel)).toEqual(["matmul_subgroup_matrix", ...(K > 512 ? ["sum_parts"] : [])]);
      expect(calls[0].params!.TM).toBe(candidate ? 8 : 4);
    },
  );

  test("f16 units where both operands are halves, whose products are exact", async () => {
    for (const unit of UNITS.slice(3)) {
      const [M, N, K] = [37, 40, 52];
      const [a, b] = [M * K, K * N].map((n, i) => normals(n, i + 1).map((x) => Math.round(64 * x) / 64));
      const words = (x: Float32Array) =>
        Uint32Array.from({ length: x.length / 2 }, (_, i) => toHalf(x[2 * i]) | (toHalf(x[2 * i + 1]) << 16));
      const sources: Source[] = [
        { data: words(a), shape: [M, K], dtype: "f16" },
        { data: words(b), shape: [K, N], dtype: "f16" },
      ];
      const options = { info: { matrixUnits: [F32, unit], f16: true }, rewrite: emulatedIn };
      const spec = { shape: [M, N], dtype: "f32" as const };
      const [got] = await runTwice(lowerMatmul, sources, {}, spec, options);
      const dense = [
        { data: a, shape: [M, K], strides: [K, 1] },
        { data: b, shape: [K, N], strides: [N, 1] },
      ];
      expect(worstError(got, product(dense[0], dense[1]))).toBeLessThan(1e-5);
      const { calls } = await lowerOp(lowerMatmul, sources, {}, spec, options);
      expect(calls[0].params).toMatchObject({ T: "f16", SM: unit.M, SN: unit.N, SK: unit.K });
    }
  });

  test("an epilogue sees batch, row and column", async () => {
    const [M, N, K] = [18, 37, 5];
    const epilogue = {
      hooks: {
        epilogue:
          "return value * 0.0 + f32(i.x) * 10000.0 + f32(i.y) * 100.0 + vec4f(vec4u(i.z) + vec4u(0u, 1u, 2u, 3u));",
      },
    };
    const sources = [
      { data: normals(2 * M * K, 1), shape: [2, M, K] },
      { data: normals(2 * K * N, 2), shape: [2, K, N] },
    ];
    const op = await lowerOp(
      lowerMatmul,
      sources,
      {},
      { shape: [2, M, N], dtype: "f32" },
      { epilogue, info: { matrixUnits: [F32], f16: true }, rewrite: emulatedIn },
    );
    expect(op.calls.map((c) => c.kernel)).toEqual(["matmul_subgroup_matrix"]);
    await submit(op.dispatches);
    const want = Float64Array.from(
      { length: 2 * M * N },
      (_, i) => Math.floor(i / N / M) * 10000 + (Math.floor(i / N) % M) * 100 + (i % N),
    );
    expect(worstError(await op.read(), want)).toBe(0);
  });
});

/** Other kernels, such as those that add up splits, stay as they are. */
const emulatedIn = (code: string): string => (code.includes("subgroup_matrix;") ? emulated(code) : code);

describe("prologues of the product", () => {
  let seed = 0;
  const random = (...shape: number[]): Tensor => tensor(normals(numel(shape), ++seed), { shape });
  const t = (x: Tensor): Tensor => x.transpose(-1, -2);
  const gated = (...shape: number[]): Tensor =>
    random(...shape)
      .silu()
      .mul(random(...shape));
  const [f32, f16] = ["f32", "f16"] as const;
  /** The type of the factors, and the product: read by vec4f along k, n or m, or by scalars where sizes are odd. */
  const cases: Record<string, readonly [MatrixUnit["component"], () => Tensor]> = {
    "a scale of A": [f32, () => random(33, 44).mul(0.5).matmul(random(44, 36))],
    "a scale of B": [f32, () => random(33, 44).matmul(random(44, 36).mul(0.5))],
    "silu gate": [f32, () => gated(70, 44).matmul(t(random(36, 44)))],
    "silu gate, scalars": [f32, () => gated(37, 43).matmul(t(random(35, 43)))],
    "silu gate, transposed": [f32, () => t(gated(44, 72)).matmul(random(44, 36))],
    "silu gate, K split": [f32, () => gated(33, 1100).matmul(random(1100, 35))],
    "a factor a row of A, a bias of B": [
      f32,
      () =>
        random(33, 44)
          .mul(random(33, 1))
          .matmul(t(random(36, 44).add(random(44)))),
    ],
    "a scale in batches, and what follows": [
      f32,
      () =>
        random(2, 17, 20)
          .mul(3)
          .matmul(random(2, 20, 37).mul(0.5))
          .add(random(37))
          .relu(),
    ],
    "silu gate, packed weights": [
      f32,
      () => quantizedLinear(gated(33, 70), quantize(normals(36 * 70, 1), [36, 70], { format: "int4", group: 32 })),
    ],
    "a cast from halves": [f32, () => random(33, 44).half().float().matmul(random(44, 36))],
    "halves, scaled, times floats": [f32, () => random(33, 44).half().mul(0.5).matmul(random(44, 36))],
    "a cast to halves": [f16, () => random(33, 44).half().matmul(random(44, 36).half())],
    "silu gate of halves": [
      f16,
      () => random(33, 44).half().silu().mul(random(33, 44).half()).matmul(random(44, 36).half()),
    ],
    "a cast to halves, scalars": [
      f16,
      () =>
        random(33, 43)
          .half()
          .matmul(t(random(35, 43).half())),
    ],
  };
  const names = Object.keys(cases);
  const make = (name: string): Tensor => {
    seed = names.indexOf(name) * 10;
    return cases[name][1]();
  };
  const joined = /^[^ ]+→matmul_subgroup_matrix/;
  /** The kernels as adapters with these units would get them. */
  const kernelsFor = (y: Tensor, info: Partial<DeviceInfo>) => {
    const device = { info: { ...currentDevice()!.info, f16: true, ...info }, tuner: new Tuner() } as Device;
    return compile(collect([{ node: y.node, mode: "read" }]), device, { fuse: "always" }).kernels;
  };

  describe.each([false, true])("arithmetic of halves %s", (f16Arithmetic) => {
    test.each(names)("%s compiles", async (name) => {
      await init({ fuse: "always" });
      const [component] = cases[name];
      for (const unit of UNITS.filter((u) => u.component === component)) {
        const info = { kind: "integrated" as const, f16Arithmetic, subgroupSize: 128, matrixUnits: [unit] };
        const found = kernelsFor(make(name), info).filter((k) => joined.test(k.label));
        expect(found).toHaveLength(1);
        expect(found[0].code).toContain(`alias T = ${component};`);
        expect(await refusal(found[0].code, true)).toBeUndefined();
      }
    });
  });

  test.each(names)("%s has the values of f64", async (name) => {
    await init({ backend: "reference" });
    const want = await make(name).data();
    await init({ backend: "webgpu", fuse: "always" });
    const { info, pipelines } = currentDevice()!;
    Object.assign(info, { matrixUnits: [cases[name][0] === "f32" ? F32 : UNITS[3]], f16: true });
    const { get } = pipelines;
    pipelines.get = (shader) => get.call(pipelines, { ...shader, code: emulatedIn(shader.code) });
    const labels = (await plan(make(name)))!.text.split("\n").map((line) => line.trim().split(/\s+/)[1]);
    expect(
      labels.filter((label) => joined.test(label)),
      labels.join(),
    ).toHaveLength(1);
    const got = await make(name).data();
    expect(worstError(got, want)).toBeLessThan(cases[name][0] === "f16" ? 5e-3 : 5e-5);
    expect(await make(name).data()).toEqual(got);
  });
});

test("adapters without the feature never meet the kernel", async () => {
  const { info } = await open();
  expect(info.matrixUnits).toEqual([]);
  const sources = [stored([64, 64], 1, false), stored([64, 64], 2, false)];
  const { calls } = await lowerOp(lowerMatmul, sources, {}, { shape: [64, 64], dtype: "f32" });
  expect(calls[0].kernel).not.toBe("matmul_subgroup_matrix");
});
