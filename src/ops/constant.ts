import { checkValue, type DType, isFloat, literal } from "../graph/dtype.ts";
import { mix } from "../graph/generator.ts";
import type { Op } from "../graph/op.ts";
import { numel, type Shape } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";

// Elementwise ops without tensor operands: an element follows from the attributes and its position.

/** Suffix for the names of WGSL helpers, which exist once per type. */
export const suffix = (type: string): string => type.replace(/\W/g, "");

const keyOfNumber = ({ value }: { value: number }): string => (Object.is(value, -0) ? "-0" : `${value}`);
const fillReference: Op["reference"] = (_x, { value }, { shape, dtype }) => ({
  data: new Float64Array(numel(shape)).fill(dtype === "bool" ? Number(value !== 0) : value),
  shape,
  dtype,
});
const fullOp = defineOp<{ value: number }>({
  name: "full",
  kind: "elementwise",
  wgsl: (_x, { value }, type) => literal(value, type),
  keyOf: keyOfNumber,
  reference: fillReference,
});
/** Infinities and NaN, passed as bits, because WGSL refuses them as constant expressions. */
const specialOp = defineOp<{ value: number }>({
  name: "special",
  kind: "elementwise",
  wgsl: (_x, { value }, type) =>
    `special_${suffix(type)}(${Number.isNaN(value) ? 0x7fc00000 : value > 0 ? 0x7f800000 : 0xff800000}u)`,
  helpers: (type) => `fn special_${suffix(type)}(bits: u32) -> ${type} { return ${type}(bitcast<f32>(bits)); }`,
  keyOf: keyOfNumber,
  reference: fillReference,
});

/** A constant of the graph. Its value is part of the plan's key: another value is another plan. */
export function full(shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  checkValue("full", value, dtype);
  const stored = dtype === "f32" && !Number.isFinite(Math.fround(value)) ? Math.fround(value) : value;
  const special = isFloat(dtype) && !Number.isFinite(stored);
  return apply(special ? specialOp : fullOp, [], { value: stored }, shape, dtype);
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
