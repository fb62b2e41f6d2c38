import { castValue, checkValue, type DType, literal } from "../graph/dtype.ts";
import { mix } from "../graph/generator.ts";
import { suffix } from "../graph/nan.ts";
import { numel, type Shape } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";

// Elementwise ops without tensor operands: an element follows from the attributes and its position.

export { suffix };

const fullOp = defineOp<{ value: number }>({
  name: "full",
  kind: "elementwise",
  constant: ({ value }) => value,
  keyOf: ({ value }) => (Object.is(value, -0) ? "-0" : `${value}`),
  reference: (_x, { value }, { shape, dtype }) => ({
    data: new Float64Array(numel(shape)).fill(value),
    shape,
    dtype,
  }),
});

/** A constant of the graph. Its value is part of the plan's key: another value is another plan. */
export function full(shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  checkValue("full", value, dtype);
  // A half is computed with in f32, as in torch: its constants round to f32 unless they are infinite as a half.
  const nearest = castValue(value, dtype);
  const stored = dtype === "f32" || (dtype === "f16" && Number.isFinite(nearest)) ? Math.fround(value) : nearest;
  return apply(fullOp, [], { value: stored }, shape, dtype);
}

export const iotaOp = defineOp<{ start: number; step: number }>({
  name: "iota",
  kind: "elementwise",
  indexed: true,
  wgsl: ([i], { start, step }, type) => `(${literal(start, type)} + ${literal(step, type)} * ${type}(${i}))`,
  reference: (_x, { start, step }, { shape, dtype }) => ({
    data: new Float64Array(shape[0]).map((_, i) => start + step * i),
    shape,
    dtype,
  }),
});

/** Uniform f32 in [0, 1) with 24 random bits: a hash of seed, offset and linear index. Source: u32 seed, expanded. */
export const randOp = defineOp<{ offset: number }>({
  name: "rand",
  kind: "elementwise",
  indexed: true,
  cost: 12,
  vjp: () => [null],
  wgsl: ([seed, i], { offset }, type) => `uniform_${suffix(type)}(${seed}, ${i}, ${offset}u)`,
  helpers: (type) => {
    const word = type === "f32" ? "u32" : "vec4u";
    // Hashes the index and the seed apart, then the xor of the two hashes.
    return `fn mix_${word}(x: ${word}) -> ${word} {
  let a = (x ^ (x >> ${word}(16u))) * ${word}(0x7feb352du);
  let b = (a ^ (a >> ${word}(15u))) * ${word}(0x846ca68bu);
  return b ^ (b >> ${word}(16u));
}
fn uniform_${suffix(type)}(seed: ${word}, i: ${word}, offset: u32) -> ${type} {
  let h = mix_${word}(mix_${word}(i + ${word}(offset * 0x9e3779b9u)) ^ mix_${word}(seed + ${word}(offset)));
  return ${type}(h >> ${word}(8u)) * ${type}(5.9604644775390625e-8);
}`;
  },
  reference: ([seed], { offset }, { shape, dtype }) => {
    const start = Math.imul(offset, 0x9e3779b9);
    const data = seed.data.map(
      (s, i) => (mix((mix((i + start) >>> 0) ^ mix((s + offset) >>> 0)) >>> 0) >>> 8) * 2 ** -24,
    );
    return { data, shape, dtype };
  },
});
