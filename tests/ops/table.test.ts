/** Every op of the table, from its samples (samples.ts): an op without samples fails by name. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { root } from "../../scripts/environment.mjs";
import type { DType } from "../../src/graph/dtype.ts";
import type { Node } from "../../src/graph/node.ts";
import { allOps } from "../../src/graph/op.ts";
import { numel } from "../../src/graph/shape.ts";
import { grad, manualSeed, tensor } from "../../src/ops/functional.ts";
import { evaluate } from "../../src/reference/interpreter.ts";
import { init } from "../../src/runtime/engine.ts";
import { flush } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { worstError } from "../support/compare.ts";
import { gradientError, leaf, secondOrderError, uniform } from "../support/f64.ts";
import { faults } from "./faults.ts";
import { elsewhere, type Input, type Sample, samplesOf, strayNames } from "./samples.ts";

const names = [...allOps().keys()];
const tested = names.filter((name) => !(name in elsewhere));

/** One variant of a sample: how its inputs reach the op. */
interface Variant {
  readonly name: string;
  readonly make: (input: Input, i: number) => Tensor;
}

const floatOf = (input: Input, i: number): number[] =>
  (input.values as number[]) ?? uniform(numel(input.shape), input.low, input.high, i + 3);

/** The input as it is declared; floats are trained. */
const plain = (input: Input, i: number): Tensor => {
  const t = tensor(floatOf(input, i), { shape: input.shape, dtype: input.dtype });
  return input.dtype === "f32" ? t.requiresGrad_() : t;
};

/** Values of another dtype: whole numbers of 1 … 4 with signs, truth values. */
function typed(dtype: DType): Variant["make"] {
  return (input, i) => {
    if (input.dtype !== "f32") return plain(input, i);
    if (dtype === "f16") return tensor(floatOf(input, i), { shape: input.shape, dtype });
    const values = uniform(numel(input.shape), -1, 1, i + 3).map((x) => {
      if (dtype === "bool") return x > 0 ? 1 : 0;
      const whole = 1 + Math.floor(Math.abs(x) * 4);
      return dtype === "i32" && x < 0 ? -whole : whole;
    });
    return tensor(values, { shape: input.shape, dtype });
  };
}

/** The same values read through a view of another buffer. */
const views: readonly Variant[] = [
  {
    name: "permuted",
    make: (input, i) => {
      const dims = input.shape.map((_, d) => d).reverse();
      const back = plain(input, i).permute(dims);
      return tensor(read(back), { shape: back.shape, dtype: input.dtype, requiresGrad: input.dtype === "f32" }).permute(
        dims,
      );
    },
  },
  {
    name: "sliced",
    make: (input, i) => {
      const wide = plain(input, i).pad(input.shape.map(() => [1, 2] as const));
      return tensor(read(wide), { shape: wide.shape, dtype: input.dtype, requiresGrad: input.dtype === "f32" }).slice(
        input.shape.map((n) => [1, 1 + n] as const),
      );
    },
  },
  {
    name: "expanded",
    make: (input, i) => {
      if (input.dtype !== "f32" || input.shape.length === 0) return plain(input, i);
      const one = [1, ...input.shape.slice(1)];
      return plain({ ...input, shape: one, values: undefined }, i).expand(input.shape);
    },
  },
];

/** Values on the host, by the interpreter. */
function read(t: Tensor): number[] {
  evaluate([t.node]);
  return Array.from(t.node.host!);
}

const outputsOf = ({ inputs, f }: Sample, make: Variant["make"]): Tensor[] => {
  manualSeed(5);
  return [f(...inputs.map(make))].flat() as Tensor[];
};

/** Everything that differs between the interpreter and the device for one variant. */
async function differences(name: string, sample: Sample, { make }: Variant, tolerance: number): Promise<string[]> {
  const want = outputsOf(sample, make);
  evaluate(want.map((t) => t.node));
  const got = outputsOf(sample, make);
  await flush(...got);
  const problems: string[] = [];
  for (const [k, t] of got.entries()) {
    if (t.dtype !== want[k].dtype || t.shape.join() !== want[k].shape.join())
      problems.push(`output ${k}: ${t.dtype} [${t.shape}], expected ${want[k].dtype} [${want[k].shape}]`);
    const error = worstError(await t.data(), want[k].node.host!);
    if (!(error <= (t.dtype === "f32" || t.dtype === "f16" ? tolerance : 0)))
      problems.push(`${name}, output ${k}: off by ${error}`);
  }
  return problems;
}

const has = (from: readonly Tensor[], name: string): boolean => {
  const seen = new Set<Node>();
  const pending = from.map((t) => t.node);
  for (let n = pending.pop(); n; n = pending.pop()) {
    if (seen.has(n)) continue;
    seen.add(n);
    if (n.op.name === name) return true;
    pending.push(...n.src);
  }
  return false;
};

test("every op has samples that use it, or a test of its own", () => {
  expect(tested.filter((name) => samplesOf(name).length === 0)).toEqual([]);
  const unused = tested.filter((name) => !samplesOf(name).some((sample) => has(outputsOf(sample, plain), name)));
  expect(unused).toEqual([]);
  expect(strayNames()).toEqual([]);
  expect(Object.values(elsewhere).filter((path) => !existsSync(join(root, path)))).toEqual([]);
});

describe("values on the device", () => {
  const seen = new Set<string>();
  const failing = new Set<string>();
  let onSoftware = true;

  /** The problems, unless they are listed. */
  function unlisted(id: string, problems: readonly string[]): readonly string[] {
    if (!(id in faults)) return problems;
    seen.add(id);
    if (problems.length) failing.add(id);
    return [];
  }

  beforeAll(async () => {
    onSoftware = (await init({ backend: "webgpu" }))!.kind === "software";
  });

  test.each(tested)("%s", async (name) => {
    const problems: string[] = [];
    for (const [i, sample] of samplesOf(name).entries()) {
      const tolerance = sample.tolerance ?? 5e-6;
      const variants: (Variant & { tolerance: number })[] = [
        { name: "plain", make: plain, tolerance },
        ...views.map((v) => ({ ...v, tolerance })),
        ...(sample.dtypes ?? []).map((dtype) => ({
          name: dtype,
          make: typed(dtype),
          tolerance: dtype === "f16" ? 4e-3 : tolerance,
        })),
      ];
      if (sample.broadcasts)
        variants.push({
          name: "broadcast",
          make: (input, k) => plain({ ...input, shape: [[2, 3, 4], [3, 1], [4]][k] }, k),
          tolerance,
        });
      for (const variant of variants) {
        const found = await differences(variant.name, sample, variant, variant.tolerance).catch((error: Error) => [
          `${variant.name}: ${error.message.split("\n")[0]}`,
        ]);
        problems.push(...unlisted(`${name} ${i} ${variant.name}`, found).map((problem) => `sample ${i}, ${problem}`));
      }
    }
    expect(problems).toEqual([]);
  });

  /** Small, ordinary and extreme arguments; 4 k + 1 of them, so that both vector and scalar code run. */
  const wide = [
    ...uniform(40, -1, 1, 3),
    ...uniform(24, -8, 8, 4),
    ...[0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2.5, 1e-6, -1e-6, 1e-3, 20, -20, 60, -60, 85, -85],
  ];
  const single = tested.flatMap((name) =>
    samplesOf(name)
      .map((sample, i) => ({ name, i, sample }))
      .filter(
        ({ sample: { inputs, tolerance } }) =>
          allOps().get(name)!.kind === "elementwise" && inputs.length === 1 && inputs[0].dtype === "f32" && !tolerance,
      )
      .filter(({ sample }) => sample.inputs[0].shape.join() === "2,3,4"),
  );

  test.each(single)(
    "$name $i over its whole domain: values and slopes",
    async ({ name, i: number, sample: { inputs, f } }) => {
      const { low } = inputs[0];
      const domain = low > 0 ? wide.map((x) => Math.abs(x) + 1e-4) : wide;
      const build = (): Tensor[] => {
        manualSeed(5);
        const x = tensor(domain, { requiresGrad: true });
        return ([f(x)].flat() as Tensor[]).flatMap((y) => {
          const slope = y.requiresGrad ? grad(y.sum(), [x], { allowUnused: true })[0] : null;
          return slope ? [y, slope] : [y];
        });
      };
      const want = build();
      evaluate(want.map((t) => t.node));
      const got = build();
      await flush(...got);
      const bad: string[] = [];
      for (const [k, t] of got.entries()) {
        const [values, expected] = [await t.data(), want[k].node.host!];
        const [absolute, relative] = t.dtype === "f16" ? [1e-7, 5e-4] : [2e-6, 2e-5];
        domain.forEach((x, i) => {
          const [g, w] = [values[i], expected[i]];
          if (g !== w && !Object.is(g, w) && !(Math.abs(g - w) <= absolute + relative * Math.abs(w)))
            bad.push(`output ${k} at ${x}: ${g}, expected ${w}`);
        });
      }
      expect(unlisted(`${name} ${number} domain`, bad)).toEqual([]);
    },
  );

  test("known faults (faults.ts) are still there: take off those that are mended", () => {
    if (!onSoftware) return expect(seen.size).toBeGreaterThan(0); // the list was made on a software adapter
    expect([...seen].filter((id) => !failing.has(id))).toEqual([]);
    const others = Object.keys(faults).filter((id) => !id.endsWith("derivative"));
    expect(others.filter((id) => !seen.has(id))).toEqual([]);
  });
});

describe("derivatives against central differences in f64", () => {
  const smooth = tested.flatMap((name) =>
    samplesOf(name)
      .map((sample, i) => ({ name, i, sample }))
      .filter(({ sample }) => !sample.noGradient),
  );
  /** Float inputs are leaves, others constants of the call. */
  const parts = ({ inputs, f }: Sample) => {
    const floats = inputs.flatMap((input, i) => (input.dtype === "f32" ? [i] : []));
    const g = (...x: Tensor[]): Tensor => {
      const all = inputs.map((input, i) => (floats.includes(i) ? x[floats.indexOf(i)] : plain(input, i)));
      const outputs = ([f(...all)].flat() as Tensor[]).filter((y) => y.dtype === "f32");
      return outputs.length === 1 ? outputs[0] : outputs.map((y) => weighted(y)).reduce((a, b) => a.add(b));
    };
    return { g, leaves: floats.map((i) => leaf(floatOf(inputs[i], i), inputs[i].shape)) };
  };
  const weighted = (y: Tensor): Tensor => y.mul(leaf(uniform(y.numel, 0.5, 1.5, 9), y.shape, false)).sum();

  test.each(smooth)("$name $i: gradient", ({ sample }) => {
    const { g, leaves } = parts(sample);
    expect(gradientError(g, leaves)).toBeLessThan(1e-7);
  });

  test.each(smooth.filter(({ sample }) => !sample.noSecond))("$name $i: second derivative", ({ name, i, sample }) => {
    const { g, leaves } = parts(sample);
    const error = secondOrderError(g, leaves);
    if (`${name} ${i} second derivative` in faults) expect(error, "take it off faults.ts").toBeGreaterThan(1e-6);
    else expect(error).toBeLessThan(1e-6);
  });
});
