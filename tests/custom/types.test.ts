/** What the compiler says to a user of `shadegrad/custom`. The checks are made by `tsc`; running shows that calls work. */
import { expect, expectTypeOf, test } from "vitest";
import {
  benchmark,
  defineElementwise,
  defineFunction,
  defineKernel,
  defineLowering,
  f32Bits,
} from "../../src/custom/index.ts";
import { rand, type Tensor, tensor } from "../../src/index.ts";

const wgsl = `
struct Dims { count: u32, shift: f32 }
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < dims.count) { y[id.x] = x[id.x] + dims.shift; }
}`;

test("elementwise ops", () => {
  const plain = defineElementwise({
    name: "types_plain",
    wgsl: ([x], _attributes, type) => `${x} * ${type}(2)`,
    js: ([x]) => x * 2,
    gradient: (g, y, [x], attributes) => {
      expectTypeOf(g).toEqualTypeOf<Tensor>();
      expectTypeOf(y).toEqualTypeOf<Tensor>();
      expectTypeOf(attributes).toEqualTypeOf<Record<string, unknown>>();
      return x.mul(0).add(g).mul(2);
    },
  });
  expectTypeOf(plain(tensor([1]))).toEqualTypeOf<Tensor>();
  const scaled = defineElementwise<{ k: number }>({
    name: "types_scaled",
    wgsl: ([x], { k }, type) => `${x} * ${type}(${k})`,
    js: ([x], { k }) => x * k,
  });
  scaled(tensor([1]), { k: 1 });
  // @ts-expect-error: the attributes are missing
  scaled(tensor([1]));
  // @ts-expect-error: k is a number
  scaled(tensor([1]), { k: "a" });
  const optional = defineElementwise<{ k?: number }>({ name: "types_optional", wgsl: ([x]) => x, js: ([x]) => x });
  optional(tensor([1]));
  optional(tensor([1]), { k: 2 });
  expect(() =>
    // @ts-expect-error: an unknown option
    defineElementwise({ name: "types_unknown", wgsl: ([x]) => x, js: ([x]) => x, vjp: 1 }),
  ).toThrow(/unknown option vjp/);
});

test("kernels", async () => {
  interface Options {
    shift: number;
  }
  const shifted = defineKernel<Options>({
    name: "types_shifted",
    wgsl,
    fallback: ([x], { shift }) => x.add(shift),
    dispatch: ({ inputs: [x], attributes, choose, device }) => {
      expectTypeOf(x.shape).toEqualTypeOf<readonly number[]>();
      expectTypeOf(x.dtype).toEqualTypeOf<"f32" | "f16" | "i32" | "u32" | "bool">();
      expectTypeOf(attributes).toEqualTypeOf<Options>();
      expectTypeOf(device.kind).toEqualTypeOf<"software" | "integrated" | "discrete">();
      expectTypeOf(choose({ n: 1 }, [{ width: 64 }, { width: 32 }]).width).toEqualTypeOf<number>();
      const parameters = x.shape.length > 9 ? { NONE: 1 } : {};
      return { parameters, uniforms: [x.shape[0], f32Bits(attributes.shift)], workgroups: 1 };
    },
  });
  const y = shifted(tensor([1, 2]), { shift: 3 });
  expectTypeOf(y).toEqualTypeOf<Tensor>();
  expect([...(await y.data())]).toEqual([4, 5]);
  // @ts-expect-error: the attributes are missing
  expect(() => shifted(3)).toThrow();
  const pair = defineKernel<Record<string, never>, [Tensor, Tensor]>({
    name: "types_pair",
    wgsl,
    output: ([x]) => [x, x],
    fallback: ([x]) => [x.mul(1), x.mul(2)],
    dispatch: () => undefined,
  });
  const [, second] = pair(tensor([1]));
  expectTypeOf(second).toEqualTypeOf<Tensor>();
  expectTypeOf(defineLowering({ op: "cumsum", wgsl, dispatch: () => undefined })).toEqualTypeOf<() => void>();
  const [row] = await benchmark({ mine: () => shifted(rand(64), { shift: 1 }) }, { rounds: 1, tolerance: 10 });
  expectTypeOf(row.ms).toEqualTypeOf<number>();
});

test("functions", () => {
  const round = defineFunction({ name: "types_round", forward: ([x]) => x.round(), gradient: (g) => g });
  expectTypeOf(round(rand(4))).toEqualTypeOf<Tensor>();
  const two = defineFunction<Record<string, never>, Tensor[]>({
    name: "types_two",
    forward: ([x]) => [x.mul(1), x.mul(2)],
    gradient: ([g, h]) => g.add(h.mul(2)),
  });
  expectTypeOf(two(rand(4))).toEqualTypeOf<Tensor[]>();
});
