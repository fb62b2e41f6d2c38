/** The quantised blocks of GGUF files (ggml), as numbers. Each row of a tensor is a run of blocks. */
import { fromHalf } from "../graph/dtype.ts";

export type BlockType = keyof typeof blocks;

interface Block {
  /** Values in a block, and the bytes that it takes. */
  readonly values: number;
  readonly bytes: number;
  /** Writes the values of the block at byte `at` to `out`, from index `o` on. */
  readonly decode: (view: DataView, at: number, out: Float32Array, o: number) => void;
}

const half = (v: DataView, at: number): number => fromHalf(v.getUint16(at, true));

/** 32 values of 4 bits, low nibbles first; `high` says where the fifth bits are, if there are any. */
function small(v: DataView, at: number, high: number | undefined, put: (i: number, q: number) => void): void {
  const fifth = high === undefined ? 0 : v.getUint32(high, true);
  for (let i = 0; i < 16; i++) {
    const byte = v.getUint8(at + i);
    put(i, (byte & 15) | (((fifth >>> i) & 1) << 4));
    put(i + 16, (byte >> 4) | (((fifth >>> (i + 16)) & 1) << 4));
  }
}

/** The 6-bit scale and minimum of each of the eight runs of 32 in a block of Q4_K or Q5_K. */
function scaleAndMin(v: DataView, at: number, run: number): [number, number] {
  const byte = (i: number) => v.getUint8(at + i);
  if (run < 4) return [byte(run) & 63, byte(run + 4) & 63];
  return [(byte(run + 4) & 15) | ((byte(run - 4) >> 6) << 4), (byte(run + 4) >> 4) | ((byte(run) >> 6) << 4)];
}

/** Q4_K and Q5_K: 256 values in eight runs with a scale and a minimum each; `high` as in `small`. */
function runs(v: DataView, at: number, nibbles: number, high: number | undefined, out: Float32Array, o: number): void {
  const [d, least] = [half(v, at), half(v, at + 2)];
  for (let run = 0; run < 8; run++) {
    const [scale, min] = scaleAndMin(v, at + 4, run);
    const from = nibbles + (run >> 1) * 32;
    for (let i = 0; i < 32; i++) {
      const low = (v.getUint8(from + i) >> (4 * (run & 1))) & 15;
      const bit = high === undefined ? 0 : (v.getUint8(high + i) >> run) & 1;
      out[o + run * 32 + i] = d * scale * (low | (bit << 4)) - least * min;
    }
  }
}

export const blocks = {
  Q4_0: {
    values: 32,
    bytes: 18,
    decode(v, at, out, o) {
      const d = half(v, at);
      small(v, at + 2, undefined, (i, q) => (out[o + i] = d * (q - 8)));
    },
  },
  Q4_1: {
    values: 32,
    bytes: 20,
    decode(v, at, out, o) {
      const [d, m] = [half(v, at), half(v, at + 2)];
      small(v, at + 4, undefined, (i, q) => (out[o + i] = d * q + m));
    },
  },
  Q5_0: {
    values: 32,
    bytes: 22,
    decode(v, at, out, o) {
      const d = half(v, at);
      small(v, at + 6, at + 2, (i, q) => (out[o + i] = d * (q - 16)));
    },
  },
  Q5_1: {
    values: 32,
    bytes: 24,
    decode(v, at, out, o) {
      const [d, m] = [half(v, at), half(v, at + 2)];
      small(v, at + 8, at + 4, (i, q) => (out[o + i] = d * q + m));
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
  Q4_K: { values: 256, bytes: 144, decode: (v, at, out, o) => runs(v, at, at + 16, undefined, out, o) },
  Q5_K: { values: 256, bytes: 176, decode: (v, at, out, o) => runs(v, at, at + 48, at + 16, out, o) },
  Q6_K: {
    values: 256,
    bytes: 210,
    decode(v, at, out, o) {
      const d = half(v, at + 208);
      for (let i = 0; i < 256; i++) {
        // Two halves of 128 values; in each, four runs of 32 take nibbles of 64 bytes and 2-bit tops of 32.
        const [part, run, k] = [i >> 7, (i >> 5) & 3, i & 31];
        const low = (v.getUint8(at + part * 64 + (run & 1) * 32 + k) >> (run < 2 ? 0 : 4)) & 15;
        const top = (v.getUint8(at + 128 + part * 32 + k) >> (2 * run)) & 3;
        out[o + i] = d * v.getInt8(at + 192 + (i >> 4)) * ((low | (top << 4)) - 32);
      }
    },
  },
} as const satisfies Record<string, Block>;
