import type { Ours } from "../ours.ts";

/** A host array that every library gets as input. */
export interface Input {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/** A workload in one library, with its inputs on the library's device. */
export interface Case {
  /** Runs once. When the promise resolves, the GPU has finished. Reads nothing back. */
  run(): Promise<void>;
  /** Values of the last run. Outputs are concatenated. */
  result(): Promise<Float32Array>;
  dispose?(): void | Promise<void>;
}

export interface Workload {
  readonly name: string;
  /** A multiply-add counts as two. */
  readonly flops?: number;
  /** Least number of bytes to move: every input and output once. */
  readonly bytes?: number;
  /** Largest allowed |value − expected| / max(1, largest |expected|). */
  readonly tolerance: number;
  /** Entries that `expected` leaves NaN are checked against the median of all libraries. */
  readonly agree?: boolean;
  readonly inputs: () => Readonly<Record<string, Input | Input[]>>;
  /** f64 values. NaN marks entries that are not checked, or on which the libraries must `agree`. */
  readonly expected: (inputs: any) => Float64Array;
  readonly ours: (library: Ours, inputs: any) => Case;
}

/** Normal values from a fixed seed: every library and every run gets the same numbers. */
export function normal(seed: number, shape: readonly number[], scale = 1): Input {
  let state = (seed * 2654435761) >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < data.length; i++)
    data[i] = scale * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return { shape, data };
}

export const filled = (shape: readonly number[], value: number): Input => ({
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value),
});

/** Integers in [0, limit), as i32. */
export function ids(seed: number, shape: readonly number[], limit: number): Input {
  const { data } = normal(seed, shape);
  return { shape, data: Int32Array.from(data, (x) => Math.floor(Math.abs(x * 7919)) % limit) };
}

export function concat(parts: ArrayLike<number>[]): Float32Array {
  const out = new Float32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
