/** Decodes the quantised blocks of GGUF files (ggml). Each row of a tensor is a sequence of blocks. */
import { fromHalf } from "../graph/dtype.ts";

export type BlockType = keyof typeof blocks;

interface Block {
  /** Values per block. */
  readonly values: number;
  /** Bytes per block. */
  readonly bytes: number;
  /** Decodes the block at byte `at` into `out`, from index `o` on. */
  readonly decode: (view: DataView, at: number, out: Float32Array, o: number) => void;
}

const half = (v: DataView, at: number): number => fromHalf(v.getUint16(at, true));

/** Reads 32 codes of 4 bits: the low nibbles, then the high ones. `high` is the position of fifth bits, if there are any. */
function codes32(v: DataView, at: number, high: number | undefined, put: (i: number, q: number) => void): void {
  const fifths = high === undefined ? 0 : v.getUint32(high, true);
  for (let i = 0; i < 16; i++) {
    const byte = v.getUint8(at + i);
    put(i, (byte & 15) | (((fifths >>> i) & 1) << 4));
    put(i + 16, (byte >> 4) | (((fifths >>> (i + 16)) & 1) << 4));
  }
}

/** The 6-bit scale and minimum of sub-block 0 to 7 of a Q4_K or Q5_K block. */
function scaleAndMin(v: DataView, at: number, sub: number): [number, number] {
  const byte = (i: number) => v.getUint8(at + i);
  if (sub < 4) return [byte(sub) & 63, byte(sub + 4) & 63];
  return [(byte(sub + 4) & 15) | ((byte(sub - 4) >> 6) << 4), (byte(sub + 4) >> 4) | ((byte(sub) >> 6) << 4)];
}

/** Decodes a Q4_K or Q5_K block: eight sub-blocks of 32 values, with a scale and a minimum each. `high` as in `codes32`. */
function decodeK(
  v: DataView,
  at: number,
  nibbles: number,
  high: number | undefined,
  out: Float32Array,
  o: number,
): void {
  const [d, dmin] = [half(v, at), half(v, at + 2)];
  for (let sub = 0; sub < 8; sub++) {
    const [scale, min] = scaleAndMin(v, at + 4, sub);
    const from = nibbles + (sub >> 1) * 32;
    for (let i = 0; i < 32; i++) {
      const low = (v.getUint8(from + i) >> (4 * (sub & 1))) & 15;
      const bit = high === undefined ? 0 : (v.getUint8(high + i) >> sub) & 1;
      out[o + sub * 32 + i] = d * scale * (low | (bit << 4)) - dmin * min;
    }
  }
}

export const blocks = {
  Q4_0: {
    values: 32,
    bytes: 18,
    decode(v, at, out, o) {
      const d = half(v, at);
      codes32(v, at + 2, undefined, (i, q) => (out[o + i] = d * (q - 8)));
    },
  },
  Q4_1: {
    values: 32,
    bytes: 20,
    decode(v, at, out, o) {
      const [d, m] = [half(v, at), half(v, at + 2)];
      codes32(v, at + 4, undefined, (i, q) => (out[o + i] = d * q + m));
    },
  },
  Q5_0: {
    values: 32,
    bytes: 22,
    decode(v, at, out, o) {
      const d = half(v, at);
      codes32(v, at + 6, at + 2, (i, q) => (out[o + i] = d * (q - 16)));
    },
  },
  Q5_1: {
    values: 32,
    bytes: 24,
    decode(v, at, out, o) {
      const [d, m] = [half(v, at), half(v, at + 2)];
      codes32(v, at + 8, at + 4, (i, q) => (out[o + i] = d * q + m));
    },
  },
  Q8_0: {
    values: 32,
    bytes: 34,
    decode(v, at, out, o) {
      const d = half(v, at);
      for (let i = 0; i < 32; i++) out[o + i] = d * v.getInt8(at + 2 + i);
    },
  },
  Q4_K: { values: 256, bytes: 144, decode: (v, at, out, o) => decodeK(v, at, at + 16, undefined, out, o) },
  Q5_K: { values: 256, bytes: 176, decode: (v, at, out, o) => decodeK(v, at, at + 48, at + 16, out, o) },
  Q6_K: {
    values: 256,
    bytes: 210,
    decode(v, at, out, o) {
      const d = half(v, at + 208);
      for (let i = 0; i < 256; i++) {
        // Two parts of 128 values. Per part, four sub-blocks of 32 share 64 bytes of low nibbles and 32 of 2-bit tops.
        const [part, sub, k] = [i >> 7, (i >> 5) & 3, i & 31];
        const low = (v.getUint8(at + part * 64 + (sub & 1) * 32 + k) >> (sub < 2 ? 0 : 4)) & 15;
        const top = (v.getUint8(at + 128 + part * 32 + k) >> (2 * sub)) & 3;
        out[o + i] = d * v.getInt8(at + 192 + (i >> 4)) * ((low | (top << 4)) - 32);
      }
    },
  },
} as const satisfies Record<string, Block>;
