import { describe, expect, test } from "vitest";
import { toHalf } from "../../src/graph/dtype.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import { ggufFile } from "./gguf.ts";

const open = async (bytes: Uint8Array) => TensorFiles.open(memoryFiles(new Map([["m.gguf", bytes]])), "m.gguf");

const half = (x: number) => [toHalf(x) & 255, toHalf(x) >> 8];
const ramp = Array.from({ length: 256 }, (_, i) => (i * 37 + 11) % 256); // bytes without a pattern

describe("GGUF", () => {
  test("metadata of every type, shapes in row-major order, plain dtypes", async () => {
    const file = await open(
      ggufFile(
        {
          "general.architecture": "llama",
          "llama.block_count": 2,
          "llama.rope.freq_base": [6, 10000],
          flag: true,
          "tokenizer.ggml.tokens": ["<unk>", "ünï"],
        },
        [
          { name: "a", shape: [2, 3], type: 0, bytes: new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer) },
          { name: "b", shape: [2], type: 1, bytes: Uint8Array.from([...half(1.5), ...half(-3)]) },
          { name: "c", shape: [2], type: 30, bytes: Uint8Array.of(0x80, 0x3f, 0x20, 0xc0) },
        ],
      ),
    );
    expect(file.metadata).toEqual({
      "general.architecture": "llama",
      "llama.block_count": 2,
      "llama.rope.freq_base": 10000,
      flag: true,
      "tokenizer.ggml.tokens": ["<unk>", "ünï"],
    });
    expect(await file.read("a")).toEqual({ data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [2, 3], dtype: "f32" });
    expect([...(await file.read("b")).data]).toEqual([1.5, -3]);
    expect([...(await file.read("c")).data]).toEqual([1, -2.5]);
  });

  // Each block's bytes are placed by the format's description, value by value: the reader goes the other way round.
  const q = ramp.slice(0, 32).map((b) => b & 15);
  const five = ramp.slice(0, 32).map((b) => b & 31);
  const nibbles = (values: number[]) =>
    Array.from({ length: 16 }, (_, i) => (values[i] & 15) | ((values[i + 16] & 15) << 4));
  const fifth = (values: number[]) => {
    const bytes = [0, 0, 0, 0];
    values.forEach((v, i) => (bytes[i >> 3] |= (v >> 4) << (i & 7)));
    return bytes;
  };
  const signed = ramp.slice(0, 32).map((b) => b - 128);
  test.each([
    ["Q4_0", 2, [...half(0.5), ...nibbles(q)], q.map((v) => 0.5 * (v - 8))],
    ["Q4_1", 3, [...half(0.5), ...half(-2), ...nibbles(q)], q.map((v) => 0.5 * v - 2)],
    ["Q5_0", 6, [...half(0.25), ...fifth(five), ...nibbles(five)], five.map((v) => 0.25 * (v - 16))],
    ["Q5_1", 7, [...half(0.25), ...half(3), ...fifth(five), ...nibbles(five)], five.map((v) => 0.25 * v + 3)],
    ["Q8_0", 8, [...half(0.125), ...signed.map((v) => v & 255)], signed.map((v) => 0.125 * v)],
  ])("%s blocks", async (type, number, bytes, want) => {
    const twice = Uint8Array.from([...bytes, ...bytes]);
    const file = await open(ggufFile({}, [{ name: "w", shape: [2, 32], type: number, bytes: twice }]));
    expect(file.entry("w").dtype).toBe(type);
    expect([...(await file.read("w")).data]).toEqual([...want, ...want]);
  });

  test("Q4_K, Q5_K and Q6_K blocks", async () => {
    const scales = [1, 9, 22, 63, 5, 48, 31, 17];
    const mins = [60, 2, 33, 7, 50, 12, 63, 1];
    // Six bits each: the first four of both in the low bits of 8 bytes, the others cut in nibbles and top bits.
    const packed = Array.from({ length: 12 }, (_, i) => {
      if (i < 4) return scales[i] | ((scales[i + 4] >> 4) << 6);
      if (i < 8) return mins[i - 4] | ((mins[i] >> 4) << 6);
      return (scales[i - 4] & 15) | ((mins[i - 4] & 15) << 4);
    });
    const qs = (values: number[]) =>
      Array.from({ length: 128 }, (_, i) => {
        const [pair, k] = [i >> 5, i & 31];
        return (values[pair * 64 + k] & 15) | ((values[pair * 64 + 32 + k] & 15) << 4);
      });
    const value = (v: number, i: number) => 0.5 * scales[i >> 5] * v - 0.25 * mins[i >> 5];
    const four = ramp.map((b) => b & 15);
    const five = ramp.map((b) => b & 31);
    const six = ramp.map((b) => b & 63);
    const high = Array.from({ length: 32 }, (_, k) =>
      Array.from({ length: 8 }, (_, run) => (five[run * 32 + k] >> 4) << run).reduce((a, b) => a | b),
    );
    const head = [...half(0.5), ...half(0.25), ...packed];
    const at = (part: number, run: number, k: number) => six[part * 128 + run * 32 + k];
    const ql = Array.from({ length: 128 }, (_, i) => {
      const [part, run, k] = [i >> 6, (i >> 5) & 1, i & 31];
      return (at(part, run, k) & 15) | ((at(part, run + 2, k) & 15) << 4);
    });
    const qh = Array.from({ length: 64 }, (_, i) =>
      [0, 1, 2, 3].map((run) => (at(i >> 5, run, i & 31) >> 4) << (2 * run)).reduce((a, b) => a | b),
    );
    const s8 = Array.from({ length: 16 }, (_, i) => i * 9 - 70);
    const file = await open(
      ggufFile({}, [
        { name: "k4", shape: [256], type: 12, bytes: Uint8Array.from([...head, ...qs(four)]) },
        { name: "k5", shape: [256], type: 13, bytes: Uint8Array.from([...head, ...high, ...qs(five)]) },
        { name: "k6", shape: [256], type: 14, bytes: Uint8Array.from([...ql, ...qh, ...s8, ...half(0.5)]) },
      ]),
    );
    expect([...(await file.read("k4")).data]).toEqual(four.map(value));
    expect([...(await file.read("k5")).data]).toEqual(five.map(value));
    expect([...(await file.read("k6")).data].map((x) => x + 0)) // -0 is 0
      .toEqual(six.map((v, i) => 0.5 * s8[i >> 4] * (v - 32) + 0));
  });

  test("files that are no GGUF, truncated, of an unknown version or type, or with ragged blocks are refused", async () => {
    const good = ggufFile({ a: "b" }, [{ name: "w", shape: [32], type: 2, bytes: new Uint8Array(18) }]);
    await expect(open(new Uint8Array(64))).rejects.toThrow("memory/m.gguf: not a GGUF file");
    await expect(open(good.subarray(0, 50))).rejects.toThrow(/m.gguf is truncated or no GGUF file/);
    await expect(open(good.subarray(0, good.length - 1))).rejects.toThrow(/truncated: tensor w ends at byte/);
    await expect(open(Uint8Array.from(good, (b, i) => (i === 4 ? 9 : b)))).rejects.toThrow(/GGUF version 9; known are/);
    const bad = (type: number, shape: number[]) =>
      ggufFile({}, [{ name: "w", shape, type, bytes: new Uint8Array(18) }]);
    await expect(open(bad(19, [32]))).rejects.toThrow(/tensor w has ggml type 19; known are F32/);
    await expect(open(bad(2, [16]))).rejects.toThrow(/Q4_0 \[16\]: rows are no multiple of the block of 32/);
  });
});
