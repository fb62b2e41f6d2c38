// Checkpoints of any size that are only a config and a seed. Their bytes are computed as they are read.
import { type FileSource, round16 } from "../../src/io/index.ts";

const BLOCK = 2 ** 24; // random f16 values; every tensor reads them from another start
const ONE = 0x3c00; // bits of 1 in f16

/** A tensor in the file: its bytes in the data section. */
interface TensorBytes {
  start: number;
  end: number;
  /** Byte of the block at which its values start. Undefined: all ones. */
  from?: number;
}

/**
 * A folder with config.json and model.safetensors in f16. Weights are normal with the given standard deviation; weights of
 * norms are 1.
 * @param shapes names and shapes of the model's tensors
 */
export function syntheticFolder(
  config: object,
  shapes: Readonly<Record<string, readonly number[]>>,
  { std = 0.02, seed = 1 } = {},
): FileSource & { bytes: number } {
  const block = randomHalves(std, seed);
  const bytes = new Uint8Array(block.buffer);
  const header: Record<string, unknown> = {};
  const tensors: TensorBytes[] = [];
  let at = 0;
  Object.entries(shapes).forEach(([name, shape], i) => {
    const end = at + 2 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: "F16", shape, data_offsets: [at, end] };
    // An odd step, so that tensors of one size differ.
    tensors.push({ start: at, end, from: /norm|layrnorm/.test(name) ? undefined : (i * 7919 * 2) % (2 * BLOCK) });
    at = end;
  });
  const json = new TextEncoder().encode(JSON.stringify(header));
  const head = new Uint8Array(8 + json.length);
  new DataView(head.buffer).setBigUint64(0, BigInt(json.length), true);
  head.set(json, 8);
  const size = head.length + at;

  const read = (start: number, end: number): Uint8Array => {
    const out = new Uint8Array(end - start);
    if (start < head.length) out.set(head.subarray(start, Math.min(end, head.length)));
    for (const t of tensors) {
      const first = Math.max(start, head.length + t.start);
      const last = Math.min(end, head.length + t.end);
      if (first >= last) continue;
      const part = out.subarray(first - start, last - start);
      if (t.from === undefined) new Uint16Array(out.buffer, part.byteOffset, part.length / 2).fill(ONE);
      else copyFromRing(part, bytes, t.from + first - head.length - t.start);
    }
    return out;
  };
  const text = new TextEncoder().encode(JSON.stringify(config));
  return {
    location: "synthetic weights",
    bytes: size,
    async size(path) {
      return path === "model.safetensors" ? size : path === "config.json" ? text.length : undefined;
    },
    async read(path, start = 0, end = path === "config.json" ? text.length : size) {
      if (path === "config.json") return text.slice(start, end);
      if (path !== "model.safetensors") throw new Error(`synthetic weights: there is no file ${path}`);
      return read(start, end);
    },
  };
}

/** Fills `out` from a ring of bytes, starting at `at`. */
function copyFromRing(out: Uint8Array, ring: Uint8Array, at: number): void {
  for (let done = 0; done < out.length; ) {
    const from = (at + done) % ring.length;
    const count = Math.min(out.length - done, ring.length - from);
    out.set(ring.subarray(from, from + count), done);
    done += count;
  }
}

/** Sums of four uniform numbers, a fast approximation of normal numbers. */
function randomHalves(std: number, seed: number): Uint16Array {
  const out = new Float32Array(BLOCK);
  let state = seed >>> 0 || 1;
  const scale = std / Math.sqrt(4 / 12) / 256;
  for (let i = 0; i < BLOCK; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const sum = (state & 255) + ((state >>> 8) & 255) + ((state >>> 16) & 255) + (state >>> 24);
    out[i] = (sum - 510) * scale;
  }
  return round16(out, "F16");
}
