import { floatBits } from "../graph/dtype.ts";
import { show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { row } from "./elementwise.ts";
import { narrow } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";
import { splitWrite } from "./split.ts";
import { checkWrite } from "./write.ts";

// Int8 rows, each with its own scale: the format of an int8 cache of keys and values. A row of D values x is ceil(D / 4)
// words of four bytes round(127 x / m), then one word with the f32 bits of m, the largest |x| of the row.

/** Number of u32 words of a row of D values. */
export const int8Words = (D: number): number => Math.ceil(D / 4) + 1;

/** Byte `i` of a word, as signed int8, divided by 127. */
const byteOf = row({
  name: "byte_of",
  rule: () => ({ args: "u32", out: "f32" }),
  wgsl: ([word, i], _, type) => {
    const [int, uint] = type === "f32" ? ["i32", "u32"] : ["vec4i", "vec4u"];
    return `(${type}(bitcast<${int}>(${word} << (${uint}(24u) - ${uint}(8u) * ${i})) >> ${uint}(24u)) / 127.0)`;
  },
  js: (word, i) => ((word << (24 - 8 * i)) >> 24) / 127,
});

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);
/** The f32 with these bits. */
const floatOf = row({
  name: "float_of",
  rule: () => ({ args: "u32", out: "f32" }),
  wgsl: ([x], _, type) => `bitcast<${type}>(${x})`,
  js: (bits) => {
    word[0] = bits;
    return float[0];
  },
});

/** Decodes rows u32 [..., int8Words(D)] to f32 [..., D]. */
export function readInt8(x: Tensor, D: number): Tensor {
  const last = x.ndim - 1;
  const words = x.shape[last] - 1;
  const bytes = byteOf(narrow(x, last, 0, words).unsqueeze(-1), positionsAlong(0, 4, 1)); // [..., words, 4]
  const values = narrow(bytes.reshape([...x.shape.slice(0, -1), words * 4]), last, 0, D);
  return values.mul(floatOf(narrow(x, last, words, 1)));
}

/**
 * Sources: cache u32 [B, H, S, int8Words(D)], value [B, H, t, D], position i32 [] or [B]. Output: the cache, with its rows
 * from `position` on replaced.
 */
const writeInt8Op = defineOp({
  name: "write_int8",
  kind: "kernel",
  inPlace: [0],
  strided: [1],
  split: splitWrite,
  reference: ([cache, value, position], _attrs, { shape, dtype }) => {
    const data = cache.data.slice();
    const [B, H, S, W] = shape;
    const [t, D] = value.shape.slice(2);
    for (let i = 0; i < B * H * t; i++) {
      const b = Math.floor(i / t / H);
      const at = position.data[position.data.length === 1 ? 0 : b] + (i % t);
      if (at < 0 || at >= S) continue;
      const x = value.data.subarray(i * D, (i + 1) * D);
      const largest = x.reduce((m, y) => Math.max(m, Math.abs(y)), 0);
      const to = (Math.floor(i / t) * S + at) * W;
      data.fill(0, to, to + W);
      x.forEach((y, d) => {
        const byte = Math.floor(0.5 + (127 * y) / (largest || 1)) & 255;
        data[to + (d >> 2)] += byte * 2 ** (8 * (d & 3));
      });
      data[to + W - 1] = floatBits(largest);
    }
    return { data, shape, dtype };
  },
});

/**
 * Cache u32 [B, H, S, int8Words(D)] whose rows from `position` on are `value` [B, H, t, D], rounded to int8.
 * Position is i32, one number or one per sample.
 */
export function writeInt8At(cache: Tensor, value: Tensor, position: Tensor): Tensor {
  const [B, H, S] = cache.shape;
  if (cache.dtype !== "u32" || cache.shape[3] !== int8Words(value.shape[3])) {
    throw new Error(
      `writeInt8At: value ${show(value.shape)} does not fit ${cache.dtype} cache ${show(cache.shape)}: expected value [B, H, t, D] and cache u32 [B, H, S, ceil(D / 4) + 1]`,
    );
  }
  checkWrite("writeInt8At", [B, H, S, value.shape[3]], value, position);
  return apply(writeInt8Op, [cache, value.to("f32"), position], {}, cache.shape, "u32");
}
