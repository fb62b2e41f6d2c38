import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { HostArray } from "../../src/graph/dtype.ts";
import { plan } from "../../src/index.ts";
import { quantize, quantizedLinear } from "../../src/nn/index.ts";
import { tensor } from "../../src/ops/functional.ts";
import { writeAt } from "../../src/ops/write.ts";
import { init } from "../../src/runtime/engine.ts";
import { currentDevice, type EngineOptions } from "../../src/runtime/session.ts";
import { assign, flush } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { worstError } from "../support/compare.ts";
import { kernelLabels, labelsOf } from "../support/plans.ts";
import { normals } from "../support/random.ts";

let seed = 0;
const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const random = (...shape: number[]): Tensor => tensor(normals(count(shape), ++seed), { shape });

/** The kernel of the product, alone but for what adds up its parts. */
const product = async (y: Tensor): Promise<string> => {
  const found = (await kernelLabels(y)).filter((label) => !label.startsWith("sum_parts"));
  expect(found.length, found.join()).toBe(1);
  return found[0];
};

/** The same values in a buffer. */
async function stored(x: Tensor): Promise<Tensor> {
  await flush(x);
  return x;
}

/** What makes an operand x of a product. */
const chains: Record<string, (x: Tensor) => Tensor> = {
  scale: (x) => x.mul(0.5),
  residual: (x) => x.add(random(...x.shape)),
  "silu gate": (x) => x.silu().mul(random(...x.shape)),
  gelu: (x) => x.gelu(),
  "a bias": (x) => x.add(random(x.shape.at(-1)!)),
  "a factor a row": (x) => x.mul(random(...x.shape.slice(0, -1), 1)),
  "a number on the device": (x) => x.mul(random(1)),
  mask: (x) => x.maskedFill(random(...x.shape.slice(-2)).gt(0), 0),
  "a transposed twin": (x) =>
    x.add(random(...[...x.shape.slice(0, -2), x.shape.at(-1)!, x.shape.at(-2)!]).transpose(-1, -2)),
  cast: (x) => x.mul(8).to("i32").to("f32"),
  padded: (x) => {
    const all: [null, null][] = x.shape.slice(1).map(() => [null, null]);
    const none: [number, number][] = x.shape.slice(1).map(() => [0, 0]);
    return x.add(
      random(...x.shape)
        .slice([[0, -1], ...all])
        .pad([[0, 1], ...none]),
    ); // prettier-ignore
  },
};

/** Shapes of the operands as they are stored, and their product, of [M, K] and [K, N] or more. */
interface Form {
  readonly a: (M: number, K: number) => number[];
  readonly b: (K: number, N: number) => number[];
  readonly f: (a: Tensor, b: Tensor) => Tensor;
}
const t = (x: Tensor): Tensor => x.transpose(-1, -2);
const forms: Record<string, Form> = {
  "A.B": { a: (M, K) => [M, K], b: (K, N) => [K, N], f: (a, b) => a.matmul(b) },
  "At.B": { a: (M, K) => [K, M], b: (K, N) => [K, N], f: (a, b) => t(a).matmul(b) },
  "A.Bt": { a: (M, K) => [M, K], b: (K, N) => [N, K], f: (a, b) => a.matmul(t(b)) },
  "At.Bt": { a: (M, K) => [K, M], b: (K, N) => [N, K], f: (a, b) => t(a).matmul(t(b)) },
  batched: { a: (M, K) => [3, 2, M, K], b: (K, N) => [3, 2, K, N], f: (a, b) => a.matmul(b) },
  "A for all batches": { a: (M, K) => [1, M, K], b: (K, N) => [3, K, N], f: (a, b) => a.matmul(b) },
  "B for all batches": { a: (M, K) => [3, 2, M, K], b: (K, N) => [2, K, N], f: (a, b) => a.matmul(b) },
  heads: {
    a: (M, K) => [2, M, 3, K],
    b: (K, N) => [2, N, 3, K],
    f: (a, b) => a.transpose(1, 2).matmul(b.transpose(1, 2).transpose(2, 3)),
  },
  parts: {
    a: (M, K) => [M + 3, K + 4],
    b: (K, N) => [K, N + 2],
    f: (a, b) =>
      a
        .slice([
          [1, -2],
          [4, null],
        ])
        .matmul(
          b.slice([
            [null, null],
            [0, -2],
          ]),
        ), // prettier-ignore
  },
};

/** Sizes that are read four at a time, and some that are not. */
const sizes = { even: [12, 20, 8], odd: [7, 13, 5] } as const;
type Size = keyof typeof sizes;
const sides = ["A", "B", "both"] as const;

interface Case {
  readonly chain: string;
  readonly form: string;
  readonly side: (typeof sides)[number];
  readonly size: Size | readonly [number, number, number];
}

function make({ chain, form, side, size }: Case): Tensor {
  seed = 10;
  const [M, K, N] = typeof size === "string" ? sizes[size] : size;
  const { a, b, f } = forms[form];
  const [x, y] = [random(...a(M, K)), random(...b(K, N))];
  return f(side === "B" ? x : chains[chain](x), side === "A" ? y : chains[chain](y));
}

const all: Case[] = [
  ...Object.keys(chains).flatMap((chain) =>
    (["even", "odd"] as const).map((size): Case => ({ chain, form: "A.B", side: "both", size })),
  ),
  ...Object.keys(forms).flatMap((form) =>
    (["even", "odd"] as const).map((size): Case => ({ chain: "a bias", form, side: "both", size })),
  ),
  ...(["A", "B"] as const).map((side): Case => ({ chain: "residual", form: "A.Bt", side, size: "even" })),
  // Few rows with lanes along k, more with lanes along n
  ...[1, 2, 3, 5, 8].map((M): Case => ({ chain: "silu gate", form: "A.Bt", side: "A", size: [M, 64, 11] })),
  ...[1, 8].map((M): Case => ({ chain: "a bias", form: "A.Bt", side: "A", size: [M, 67, 11] })),
  ...[1, 4].map((M): Case => ({ chain: "a factor a row", form: "A.Bt", side: "B", size: [M, 64, 11] })),
  // Many rows, and K split
  { chain: "a bias", form: "A.B", side: "A", size: [131, 8, 9] },
  { chain: "residual", form: "A.B", side: "both", size: [3, 1031, 3] },
  { chain: "scale", form: "A.B", side: "both", size: [1, 1, 1] },
];
const nameOf = ({ chain, form, side, size }: Case): string => `${chain}, ${side} of ${form}, ${size}`;

const devices: Record<string, EngineOptions> = {
  "as it is": {},
  "no subgroups": { disable: ["subgroups"] },
  "default limits": { defaultLimits: true },
};

describe("work that makes operands of products", () => {
  const want = new Map<string, HostArray>();
  beforeAll(async () => {
    await init({ backend: "reference" });
    for (const c of all) want.set(nameOf(c), await make(c).data());
  });

  describe.each(Object.keys(devices))("%s", (device) => {
    beforeAll(async () => {
      if (!(await init({ ...devices[device], fuse: "always" }))) throw new Error("no WebGPU adapter");
    });
    // The kernels are the same as on the device as it is.
    const cases = device === "default limits" ? all.slice(0, 6) : all;

    test.each(cases.map((c) => [nameOf(c), c] as const))("%s", async (name, c) => {
      const label = await product(make(c));
      expect(label).toMatch(c.side === "both" ? /^[^&]+&[^&]+→mat/ : /^[^&]+→mat/);
      const got = await make(c).data();
      expect(worstError(got, want.get(name)!)).toBeLessThan(2e-5);
      expect(await make(c).data()).toEqual(got); // replayed
    });
  });
});

describe("halves", () => {
  const cases: Record<string, () => Tensor> = {
    "cast to halves": () => random(9, 20).half().matmul(random(20, 12).half()),
    "halves, scaled": () => random(9, 20).half().mul(0.5).matmul(random(20, 12)),
    "halves, scaled, by scalars": () => random(9, 7).half().add(random(7).half()).matmul(random(7, 5)),
    "halves among floats": () => random(9, 20).add(random(9, 20).half().float()).matmul(random(20, 12)),
  };
  const ready = async (make: () => Tensor): Promise<Tensor> => {
    seed = 20;
    return make();
  };
  test.each(Object.keys(cases).flatMap((name) => (["storage", "native"] as const).map((f16) => [name, f16] as const)))(
    "%s, %s arithmetic",
    async (name, f16) => {
      await init({ backend: "reference" });
      const want = await (await ready(cases[name])).data();
      await init({ f16, fuse: "always" });
      expect(await product((await ready(cases[name])).float())).toMatch(/→matmul/);
      expect(worstError(await (await ready(cases[name])).data(), want)).toBeLessThan(1e-2); // of values up to 10
    },
  );
  afterAll(() => init({ fuse: "always" }));
});

describe("packed weights", () => {
  const formats = [
    { format: "int8", group: 32 },
    { format: "int4", group: 32, zeroPoint: true },
    { format: "nf4", group: 64 },
    { format: "int8", group: 32, activations: "int8" },
  ] as const;
  const devices = ["subgroups", "none"] as const;
  const cases = formats.flatMap((q) =>
    devices.flatMap((d) =>
      [1, 2, 12].map((M) => [`${q.format}${"activations" in q ? " twice" : ""}`, d, M, q] as const),
    ),
  );

  test.each(cases)("%s, %s, %i rows", async (_, device, M, options) => {
    await init({ disable: device === "none" ? ["subgroups"] : [], fuse: "always" });
    for (const K of M === 2 ? [100] : [100, 67]) {
      seed = 30;
      const q = quantize(normals(13 * K, 3), [13, K], options);
      const [x, g] = [random(M, K), random(M, 13)];
      const want = quantizedLinear(await stored(x.silu().mul(0.5)), q);
      const y = quantizedLinear(x.silu().mul(0.5), q);
      expect((await kernelLabels(y))[0]).toMatch(/^silu·full·mul→(mat|quantize_rows)/);
      expect(worstError(await y.data(), await want.data())).toBeLessThan(1e-5);
      // dX = g · W, where work makes g
      const gradient = async (scaled: Tensor): Promise<HostArray> => {
        const z = random(M, K).requiresGrad_();
        quantizedLinear(z, q).mul(scaled).sum().backward();
        return z.grad!.data();
      };
      expect(worstError(await gradient(g.mul(2)), await gradient(await stored(g.mul(2))))).toBeLessThan(1e-5);
    }
  });

  test("silu gate of one token", async () => {
    await init({ fuse: "always" });
    const q = quantize(normals(13 * 100, 3), [13, 100], { format: "int4", group: 32 });
    const [x, y] = [random(1, 100), random(1, 100)];
    const made = (): Tensor => x.silu().mul(y);
    const want = await quantizedLinear(await stored(made()), q).data();
    expect(await product(quantizedLinear(made(), q))).toMatch(/^silu·mul→mat/);
    expect(worstError(await quantizedLinear(made(), q).data(), want)).toBeLessThan(1e-5);
  });
  afterAll(() => init({ fuse: "always" }));
});

describe("when an operand is made where it is read", () => {
  beforeAll(async () => {
    if (!(await init({ fuse: "always" }))) throw new Error("no WebGPU adapter");
  });
  const fused = expect.stringMatching(/→mat/);
  const alone = expect.stringMatching(/^mat/);

  test("it is one dispatch less than if the operand is wanted, too", async () => {
    const [x, w] = [random(20, 36), random(36, 12)];
    const made = x.gelu();
    expect(await kernelLabels(made.matmul(w))).toEqual(["gelu→matmul"].map((l) => expect.stringContaining(l)));
    expect(await kernelLabels(made.matmul(w), made)).toEqual(["gelu", alone]);
  });

  test("others read it: it is stored", async () => {
    const [x, w] = [random(20, 36), random(36, 12)];
    const made = x.mul(3);
    expect(await kernelLabels(made.matmul(w), made.matmul(w.neg()))).toEqual([
      expect.stringMatching("mul"),
      alone,
      fused,
    ]);
    expect(await kernelLabels(made.matmul(t(made)))).toEqual([fused]); // both sides of one product
  });

  test("the rule: readings by price, against memory and a dispatch", async () => {
    const [x, y] = [random(512, 252), random(512, 252)];
    const by = (N: number): Tensor => random(252, N);
    expect(await kernelLabels(x.mul(2).matmul(by(252)))).toEqual([fused]);
    expect(await kernelLabels(x.add(y).matmul(by(32)))).toEqual([fused]);
    expect(await kernelLabels(x.add(y).matmul(by(252)))).toEqual(["add", alone]);
    expect(await kernelLabels(x.gelu().matmul(by(32)))).toEqual([fused]);
    expect(await kernelLabels(x.gelu().matmul(by(252)))).toEqual(["gelu", alone]);
  });

  test("a transpose reads its operand once, so that any prologue fuses", async ({ skip }) => {
    const { kind, subgroupSize } = currentDevice()!.info;
    skip(kind !== "software" || subgroupSize === 0, "this adapter transposes nothing");
    seed = 35;
    const [x, w, y] = [random(260, 36), random(256, 36), random(256, 1)];
    const made = (): Tensor => x.gelu().matmul(t(w.mul(y).add(1)));
    expect(await kernelLabels(made())).toEqual(["gelu→transpose", "mul·full·add→transpose", alone]);
    const want = await (await stored(x.gelu())).matmul(t(await stored(w.mul(y).add(1)))).data();
    expect(worstError(await made().data(), want)).toBeLessThan(1e-5);
  });

  test("silu·gate of one token into the down projection, by adapter class", async () => {
    const { info } = currentDevice()!;
    const zeros = (...shape: number[]): Tensor => tensor(new Float32Array(count(shape)), { shape });
    const down = (K: number, N: number): Promise<string[]> =>
      kernelLabels(
        zeros(1, K)
          .silu()
          .mul(zeros(1, K))
          .matmul(t(zeros(N, K))),
      );
    const apart = ["silu·mul", alone];
    expect(await down(480, 256)).toEqual([fused]);
    expect(await down(1376, 512)).toEqual(apart);
    const { kind } = info;
    try {
      Object.assign(info, { kind: "integrated" });
      expect(await down(1376, 512)).toEqual([fused]);
      expect(await down(1376, 2048)).toEqual(apart);
      Object.assign(info, { kind: "discrete" });
      expect(await down(1376, 2048)).toEqual([fused]);
      expect(await down(2560, 8192)).toEqual(apart);
    } finally {
      Object.assign(info, { kind });
    }
  });

  test("what a driver would compile for seconds is not fused", async () => {
    const by = random(5, 5);
    const sum = (n: number): Tensor => Array.from({ length: n }, () => random(130, 5)).reduce((a, b) => a.add(b));
    const { subgroupSize } = currentDevice()!.info;
    expect(await kernelLabels(sum(2).matmul(by))).toEqual([fused]);
    if (subgroupSize === 8)
      expect(await kernelLabels(sum(3).matmul(by))).toEqual([expect.stringMatching(/^add/), alone]);
  });

  test("the product's epilogue fuses as well", async () => {
    const [x, w, b] = [random(20, 36), random(36, 12), random(12)];
    expect(await kernelLabels(x.silu().matmul(w).add(b).relu())).toEqual([
      expect.stringMatching(/^silu→matmul.*→add·relu$/),
    ]);
  });

  test("within the bindings of default limits", async () => {
    await init({ defaultLimits: true, fuse: "always" });
    const sum = (n: number): Tensor => Array.from({ length: n }, () => random(8, 8)).reduce((a, b) => a.add(b));
    expect(await kernelLabels(sum(5).matmul(random(8, 8)))).toEqual([fused]);
    expect(await kernelLabels(sum(6).matmul(random(8, 8)))).toEqual([expect.stringMatching(/^add/), alone]);
    expect(await kernelLabels(sum(3).matmul(sum(3)))).toEqual([expect.stringMatching(/^add/), fused]);
    const y = await sum(2).matmul(sum(3)).data();
    expect(y.every(Number.isFinite)).toBe(true);
    await init({ fuse: "always" });
  });

  test("not if an input is overwritten before it is read", async () => {
    const [cache, w, rows] = [random(1, 1, 4, 8), random(8, 5), random(1, 1, 2, 8)];
    const want = await cache.mul(2).reshape([4, 8]).matmul(w).data();
    await stored(cache);
    const before = cache.mul(2);
    assign(cache, writeAt(cache, rows, tensor([1], { dtype: "i32" })));
    const y = before.reshape([4, 8]).matmul(w);
    expect(worstError(await y.data(), want)).toBeLessThan(1e-5);
    expect((await cache.data()).slice(8, 24)).toEqual(await rows.reshape([-1]).data());
  });
});

describe("gradients", () => {
  /** x is trained, the weights are frozen: the backward pass needs x, not values computed from it. */
  const run = async (): Promise<{ values: HostArray[]; made: string[] }> => {
    seed = 40;
    const x = random(6, 20).requiresGrad_();
    const [y, w, v] = [random(6, 20), random(20, 8), random(8, 12)];
    const out = x.silu().mul(y).matmul(w.mul(0.5)).tanh().matmul(v);
    out.mul(random(6, 12)).sum().backward();
    const text = (await plan(out, x.grad!))?.text ?? ""; // the reference has no plan
    return { values: [await out.data(), await x.grad!.data()], made: labelsOf(text).filter((l) => /→mat/.test(l)) };
  };
  const trained = async (): Promise<HostArray[]> => {
    seed = 50;
    const [x, y, w] = [random(6, 20), random(6, 20), random(20, 8)].map((p) => p.requiresGrad_());
    const out = x.add(y).matmul(w.mul(0.5));
    out.mul(random(6, 8)).sum().backward();
    return Promise.all([out, x.grad!, y.grad!, w.grad!].map((p) => p.data()));
  };

  test("agree with f64, whether the operand is stored for the backward pass or not", async () => {
    await init({ backend: "reference" });
    const want = [...(await run()).values, ...(await trained())];
    await init({ fuse: "always" });
    const { values, made } = await run();
    expect(made.length).toBeGreaterThanOrEqual(1);
    [...values, ...(await trained())].forEach((got, i) => expect(worstError(got, want[i]), `${i}`).toBeLessThan(2e-5));
  });
});

describe("random chains in random products", () => {
  const step = fc.record({ kind: fc.nat(7), k: fc.nat(3) });
  const chainOf = (steps: readonly { kind: number; k: number }[]) => (x: Tensor) =>
    steps.reduce((v, { kind, k }) => {
      const shape = [...v.shape];
      return [
        () => v.mul(0.5 + k),
        () => v.add(random(...shape)),
        () => v.sigmoid(),
        () => v.mul(random(...shape.map((n, d) => ((k >> (d % 2)) & 1 ? 1 : n)))),
        () => t(t(v).add(random(shape.at(-2)!))),
        () => v.flip([k % shape.length]).sub(0.25),
        () => v.gt(0).where(v, v.mul(0.1)),
        () => v.maximum(random(shape.at(-1)!)),
      ][kind]();
    }, x);
  const chain = fc.array(step, { minLength: 1, maxLength: 2 });
  const dim = fc.constantFrom(1, 2, 4, 5, 8, 11, 12, 16);
  const program = fc.record({
    form: fc.constantFrom(...Object.keys(forms)),
    left: chain,
    right: chain,
    M: dim,
    K: dim,
    N: dim,
  });
  const programs = fc.sample(program, { numRuns: 16, seed: 20261122 });
  const build = ({ form, left, right, M, K, N }: (typeof programs)[number]): Tensor => {
    seed = 60;
    const { a, b, f } = forms[form];
    return f(chainOf(left)(random(...a(M, K))), chainOf(right)(random(...b(K, N))));
  };

  test("agree with f64", async () => {
    await init({ backend: "reference" });
    const want: HostArray[] = [];
    for (const p of programs) want.push(await build(p).data());
    await init({ fuse: "always" });
    let joined = 0;
    for (const [i, p] of programs.entries()) {
      if ((await kernelLabels(build(p))).some((l) => /→mat/.test(l))) joined++;
      const got = await build(p).data();
      expect(worstError(got, want[i]), JSON.stringify(p)).toBeLessThan(5e-5);
      expect(await build(p).data()).toEqual(got);
    }
    expect(joined).toBeGreaterThan(programs.length / 2);
  });
});
