import { describe, expect, test } from "vitest";
import type { AttentionAttrs } from "../../src/graph/attributes.ts";
import { fromHalf, toHalf } from "../../src/graph/dtype.ts";
import { lowerAttention, lowerAttentionBackward } from "../../src/lowering/attention.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { at, attention } from "../support/reference.ts";
import { runTwice, type Source } from "./harness.ts";

type HostArray = Float32Array | Int32Array | Uint32Array;

interface Case {
  B?: number;
  H?: number;
  heads?: number;
  T: number;
  S?: number;
  D: number;
  causal?: AttentionAttrs["causal"];
  window?: number;
  /** Shape of a boolean mask or an additive bias that broadcasts to [B, H, T, S]. */
  mask?: readonly number[];
  bias?: readonly number[];
  lengths?: readonly number[];
  /** q, k, v and the gradient lie as [B, T, H, D], as after a head-splitting permute; so do the results. */
  permuted?: boolean;
  /** Where they begin in their buffers when permuted. */
  offset?: number;
  /** q, k and v, or k and v alone, are halves; or k and v are int8 rows, which have no gradient. */
  stored?: "f16" | "kv f16" | "kv int8";
}

interface Problem {
  attrs: AttentionAttrs;
  shape: { B: number; H: number; heads: number; T: number; S: number; D: number };
  q: Source;
  k: Source;
  v: Source;
  g: Source;
  extra: Source[];
  visible(b: number, h: number, t: number, s: number): boolean;
  bias(b: number, h: number, t: number, s: number): number;
}

/** [B, N, R, D] laid out contiguously, or as a view of [B, R, N, D] `offset` elements into a larger buffer. */
function rows(
  seed: number,
  [B, N, R, D]: readonly number[],
  { permuted = false, offset = permuted ? 12 : 0 }: Case,
): Source {
  const data = normals(B * N * R * D + offset, seed);
  return { data, shape: [B, N, R, D], offset, strides: permuted ? [N * R * D, D, N * D, 1] : [N * R * D, R * D, D, 1] };
}

function broadcast(shape: readonly number[], data: Float32Array | Uint32Array): Source {
  let stride = 1;
  const strides = shape.map(() => 0);
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = shape[i] === 1 ? 0 : stride;
    stride *= shape[i];
  }
  return { data, shape, strides };
}

function problem(c: Case): Problem {
  const { B = 1, H = 2, heads = H, T, S = T, D, causal = "none", window } = c;
  const count = (s: readonly number[]): number => s.reduce((a, b) => a * b, 1);
  const mask =
    c.mask &&
    broadcast(
      c.mask,
      Uint32Array.from(normals(count(c.mask), 7), (x) => (x > -0.3 ? 1 : 0)),
    );
  const bias =
    c.bias &&
    broadcast(
      c.bias,
      normals(count(c.bias), 8).map((x, i) => (i % 5 === 0 ? -Infinity : x)),
    );
  const lengths: Source | undefined = c.lengths && { data: Int32Array.from(c.lengths), shape: [B] };
  const both = mask && bias;
  const joint: Source | undefined = both && {
    data: Float32Array.of(...mask.data, ...bias.data),
    shape: [mask.data.length + bias.data.length],
  };
  return {
    attrs: {
      scale: D ** -0.5,
      causal,
      window,
      hasMask: !!mask,
      hasBias: !!bias,
      joint: both && [mask.shape, bias.shape],
      hasLengths: !!lengths,
      tokensFirst: c.permuted,
    },
    shape: { B, H, heads, T, S, D },
    q: rows(1, [B, H, T, D], c),
    k: rows(2, [B, heads, S, D], c),
    v: rows(3, [B, heads, S, D], c),
    g: rows(4, [B, H, T, D], c),
    extra: [...(joint ? [joint] : [mask, bias]), lengths].filter((x) => x !== undefined),
    visible(b, h, t, s) {
      const length = c.lengths?.[b] ?? S;
      const shift = causal === "bottom-right" ? length - T : 0;
      return (
        s < length &&
        (causal === "none" || (s <= t + shift && s > t + shift - (window ?? Infinity))) &&
        (!mask || at(mask, b, h, t, s) !== 0)
      );
    },
    bias: (b, h, t, s) => (bias ? at(bias, b, h, t, s) : 0),
  };
}

/** Words of halves with the same strides, and the values they hold. */
function halved(x: Source): { words: Source; values: Source } {
  const bits = Array.from(x.data, toHalf);
  const words = Uint32Array.from(
    { length: Math.ceil(bits.length / 2) },
    (_, i) => bits[2 * i] | (bits[2 * i + 1] << 16),
  );
  return { words: { ...x, data: words, dtype: "f16" }, values: { ...x, data: Float32Array.from(bits, fromHalf) } };
}

/** int8 rows, contiguous, and the values they hold. */
function rounded(x: Source): { words: Source; values: Source } {
  const [B, N, R, D] = x.shape;
  const W = Math.ceil(D / 4) + 1;
  const bytes = new Int8Array(B * N * R * W * 4);
  const largest = new Float32Array(bytes.buffer);
  const values = new Float32Array(B * N * R * D);
  for (let i = 0; i < B * N * R; i++) {
    const row = Array.from({ length: D }, (_, d) => at(x, Math.floor(i / R / N), Math.floor(i / R) % N, i % R, d));
    const m = Math.max(...row.map(Math.abs));
    row.forEach((y, d) => {
      bytes[i * W * 4 + d] = Math.round((127 * y) / m);
      values[i * D + d] = (bytes[i * W * 4 + d] / 127) * m;
    });
    largest[i * W + W - 1] = m;
  }
  const shape = [B, N, R];
  return {
    words: { data: new Uint32Array(bytes.buffer), shape: [...shape, W], strides: [N * R * W, R * W, W, 1] },
    values: { data: values, shape: x.shape, strides: [N * R * D, R * D, D, 1] },
  };
}

/** [B, T, H, D] as [B, H, T, D]. */
function headsFirst(x: HostArray, [, H, T, D]: readonly number[]): HostArray {
  return x.map((_, i) => {
    const [b, h, t, d] = [Math.floor(i / (H * T * D)), Math.floor(i / (T * D)) % H, Math.floor(i / D) % T, i % D];
    return x[((b * T + t) * H + h) * D + d];
  });
}

async function check(c: Case, info = {}, tolerance = { o: 2e-6, gradient: 1e-5 }, candidate = 0): Promise<void> {
  const p = problem(c);
  const sources = { q: p.q, k: p.k, v: p.v };
  for (const name of ["q", "k", "v"] as const) {
    if (!c.stored || (name === "q" && c.stored !== "f16")) continue;
    const { words, values } = (c.stored === "kv int8" ? rounded : halved)(p[name]);
    sources[name] = words;
    p[name] = values;
  }
  const { B, H, heads, T, S, D } = p.shape;
  const want = attention({ ...p, scale: p.attrs.scale });
  const f32 = (shape: number[]) => ({ shape, dtype: "f32" as const });
  const attrs = { ...p.attrs };
  const plain = (x: HostArray, shape: number[]) => (c.permuted ? headsFirst(x, shape) : x);
  const [o, stats] = await runTwice(
    lowerAttention,
    [sources.q, sources.k, sources.v, ...p.extra],
    attrs,
    [f32([B, H, T, D]), f32([B, H, T, 2])],
    { info, candidate },
  );
  const unit = p.attrs.hasBias ? 4 * Math.LOG2E : 1; // of the largest score, see attention.wgsl
  const lse = want.lse.map((_, i) =>
    stats[2 * i + 1] > 0 ? stats[2 * i] * unit - Math.log2(stats[2 * i + 1]) : -Infinity,
  );
  expect(worstError(plain(o, [B, H, T, D]), want.o), "o").toBeLessThan(tolerance.o);
  expect(worstError(lse, want.lse), "largest score and sum").toBeLessThan(2e-6);
  if (c.stored === "kv f16" || c.stored === "kv int8") return; // a cache, which has no gradient
  const saved: Source[] = [{ data: o, shape: [B, H, T, D] }, { data: stats, shape: [B, H, T, 2] }, p.g];
  const kv = f32([B, heads, S, D]);
  const [dq, dk, dv] = await runTwice(
    lowerAttentionBackward,
    [sources.q, sources.k, sources.v, ...saved, ...p.extra],
    attrs,
    [f32([B, H, T, D]), kv, kv],
    { info, candidate },
  );
  expect(worstError(plain(dq, [B, H, T, D]), want.dq), "dq").toBeLessThan(tolerance.gradient);
  expect(worstError(plain(dk, [B, heads, S, D]), want.dk), "dk").toBeLessThan(tolerance.gradient);
  expect(worstError(plain(dv, [B, heads, S, D]), want.dv), "dv").toBeLessThan(tolerance.gradient);
}

const cases: Record<string, Case> = {
  "one query, one key": { T: 1, D: 64 },
  "odd lengths": { T: 7, S: 17, D: 32 },
  "one past a block, causal": { T: 65, D: 64, causal: "top-left" },
  "prime length, causal, D 20": { H: 1, T: 301, D: 20, causal: "top-left" },
  "more queries than keys, bottom-right: the first see nothing": { T: 17, S: 7, D: 4, causal: "bottom-right" },
  "more keys than queries, bottom-right": { T: 7, S: 65, D: 80, causal: "bottom-right" },
  "D 128": { T: 33, D: 128, causal: "top-left" },
  "D 1": { T: 9, D: 1 },
  "D 18: the last vector is partial": { T: 17, S: 31, D: 18, permuted: true },
  "grouped heads, permuted operands": { B: 2, H: 6, heads: 2, T: 35, D: 32, causal: "top-left", permuted: true },
  "grouped heads, permuted from the start of their buffers": {
    B: 2,
    H: 6,
    heads: 2,
    T: 19,
    S: 27,
    D: 20,
    causal: "bottom-right",
    permuted: true,
    offset: 0,
  },
  "permuted from the start of their buffers, D 18": { B: 2, H: 3, T: 21, D: 18, permuted: true, offset: 0 },
  "mask per batch [B,1,T,S]": { B: 2, T: 37, D: 32, mask: [2, 1, 37, 37], permuted: true },
  "mask per head [1,H,1,S], causal": { B: 2, T: 17, D: 32, mask: [1, 2, 1, 17], causal: "top-left" },
  "full mask [B,H,T,S], grouped": { B: 2, H: 4, heads: 2, T: 18, S: 21, D: 20, mask: [2, 4, 18, 21] },
  "bias [1,H,T,S] with -inf": { B: 2, T: 23, S: 40, D: 16, bias: [1, 2, 23, 40] },
  "bias for all [1,1,1,S], causal": { T: 17, D: 64, bias: [1, 1, 1, 17], causal: "top-left" },
  "lengths, one of them 0": { B: 3, T: 19, S: 50, D: 32, lengths: [50, 0, 33] },
  "lengths, bottom-right: a prompt in a cache": {
    B: 2,
    H: 4,
    heads: 2,
    T: 20,
    S: 64,
    D: 32,
    lengths: [37, 20],
    causal: "bottom-right",
  },
  "decoding: one token, lengths": {
    B: 2,
    H: 3,
    T: 1,
    S: 600,
    D: 64,
    lengths: [311, 600],
    causal: "bottom-right",
    permuted: true,
  },
  "decoding: grouped heads, several tokens": {
    B: 1,
    H: 6,
    heads: 2,
    T: 3,
    S: 301,
    D: 32,
    lengths: [290],
    causal: "bottom-right",
  },
  "decoding: 20 rows a key head, D 80": { H: 4, heads: 1, T: 5, S: 65, D: 80 },
  "decoding: a mask": { B: 2, T: 2, S: 270, D: 32, mask: [2, 1, 1, 270] },
  "decoding: a bias": { T: 4, S: 40, D: 20, bias: [1, 2, 4, 40] },
  "mask and bias": { B: 2, T: 19, S: 37, D: 32, mask: [2, 1, 19, 37], bias: [1, 2, 19, 37] },
  "mask and bias, decoding": { B: 2, T: 3, S: 270, D: 32, mask: [2, 1, 1, 270], bias: [1, 2, 3, 1] },
  "window of 1": { T: 37, D: 16, causal: "top-left", window: 1 },
  "window of 7, shorter than a block": {
    B: 2,
    H: 4,
    heads: 2,
    T: 67,
    D: 32,
    causal: "top-left",
    window: 7,
    permuted: true,
  },
  "window of 33 over a prompt in a cache": {
    B: 2,
    H: 4,
    heads: 2,
    T: 41,
    S: 150,
    D: 20,
    lengths: [143, 60],
    causal: "bottom-right",
    window: 33,
  },
  "window and mask": { T: 40, D: 20, causal: "top-left", window: 9, mask: [1, 2, 40, 40] },
  "window, more keys than queries": { T: 21, S: 90, D: 18, causal: "bottom-right", window: 30 },
  "decoding: a window in splits": {
    B: 2,
    H: 3,
    T: 1,
    S: 1500,
    D: 64,
    lengths: [1311, 400],
    causal: "bottom-right",
    window: 700,
  },
  "decoding: a window, several tokens": { H: 4, heads: 1, T: 3, S: 90, D: 80, causal: "bottom-right", window: 11 },
  "D 96, cross attention": { T: 5, S: 33, D: 96 },
  "D 256, causal": { T: 19, S: 35, D: 256, causal: "bottom-right" },
  "D 256, decoding": { H: 6, heads: 2, T: 1, S: 70, D: 256 },
  halves: { B: 2, H: 4, heads: 2, T: 33, D: 32, causal: "top-left", permuted: true, stored: "f16" },
  "halves, D 18": { T: 17, S: 31, D: 18, stored: "f16" },
  "a cache of halves: prompt": { T: 20, S: 64, D: 32, lengths: [50], causal: "bottom-right", stored: "kv f16" },
  "a cache of halves: token": { H: 4, heads: 2, T: 1, S: 301, D: 64, lengths: [300], stored: "kv f16" },
  "a cache of int8: prompt": { T: 20, S: 64, D: 32, lengths: [50], causal: "bottom-right", stored: "kv int8" },
  "a cache of int8: token, D 18": { H: 4, heads: 2, T: 1, S: 301, D: 18, lengths: [300], stored: "kv int8" },
};

// A saved log-sum-exp and one chain of additions a sum gave twice as much.
const close = { o: 6e-7, gradient: 1.2e-6 };

describe("attention", () => {
  for (const [name, c] of Object.entries(cases)) test(name, () => check(c));
  test("512 rows stay within few roundings of f64", () =>
    check({ B: 1, H: 1, T: 512, D: 64, causal: "top-left" }, {}, close));
});

describe("attention without subgroups", () => {
  for (const [name, c] of Object.entries(cases)) test(name, () => check(c, { subgroupSize: 0 }));
  test("512 rows stay within few roundings of f64", () =>
    check({ B: 1, H: 1, T: 512, D: 64, causal: "top-left" }, { subgroupSize: 0 }, close));
});

describe("what the tuner may choose", () => {
  const c: Case = { H: 4, heads: 2, T: 37, S: 41, D: 20, causal: "bottom-right", window: 30 };
  test.each([1, 2])("tile %d", (candidate) => check(c, {}, undefined, candidate));
  test("without subgroups", () => check(c, { subgroupSize: 0 }, undefined, 1));
  const one: Case = { H: 4, heads: 2, T: 1, S: 1100, D: 20 };
  test.each([1, 3])("decoding %d", (candidate) => check(one, { subgroupSize: 0 }, undefined, candidate));
});

// Constant loops, as for real GPUs: this adapter's driver takes long to unroll them, so few and small (tiles of 4 keys).
describe("attention as for a real GPU", () => {
  const info = { kind: "discrete", subgroupSize: 32 } as const;
  test("prefill", () =>
    check({ T: 70, S: 83, D: 8, causal: "bottom-right", H: 4, heads: 2 }, { ...info, maxWorkgroupBytes: 256 }));
  test("decoding in splits", () =>
    check({ B: 2, H: 4, heads: 2, T: 1, S: 700, D: 8, lengths: [613, 40], causal: "bottom-right" }, info));
});
