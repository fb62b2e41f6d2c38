import { expect, test } from "vitest";
import { lowerWriteAt } from "../../src/lowering/cache-write.ts";
import { normals } from "../support/random.ts";
import { lowerOp, type Source, submit } from "./harness.ts";

async function write(
  cache: Source,
  value: Source,
  positions: number[],
  dtype: "f32" | "f16" = "f32",
): Promise<ArrayLike<number>> {
  const position = { data: Int32Array.from(positions), shape: positions.length === 1 ? [] : [positions.length] };
  const op = await lowerOp(lowerWriteAt, [cache, value, position], {}, { shape: cache.shape, dtype }, { inPlace: [0] });
  await submit(op.dispatches);
  return op.read();
}

for (const [name, positions] of Object.entries({ "one position": [3], "a position each": [0, 5] })) {
  test(`rows go where they belong, the rest stays: ${name}`, async () => {
    const [B, H, S, D, t] = [2, 3, 9, 5, 4];
    const cache = { data: normals(B * H * S * D, 1), shape: [B, H, S, D] };
    const value = { data: normals(B * H * t * D, 2), shape: [B, H, t, D], strides: [t * H * D, D, H * D, 1] };
    const want = cache.data.slice();
    for (let b = 0; b < B; b++)
      for (let h = 0; h < H; h++)
        for (let r = 0; r < t; r++)
          for (let d = 0; d < D; d++) {
            want[((b * H + h) * S + (positions[b] ?? positions[0]) + r) * D + d] =
              value.data[((b * t + r) * H + h) * D + d];
          }
    expect(await write(cache, value, positions)).toEqual(want);
  });
}

test("rows outside the cache are dropped", async () => {
  const cache = { data: new Float32Array(8), shape: [1, 1, 4, 2] };
  const value = { data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [1, 1, 3, 2] };
  expect(await write(cache, value, [2])).toEqual(Float32Array.of(0, 0, 0, 0, 1, 2, 3, 4));
});

test("halves move in pairs", async () => {
  const bits = (n: number, from: number) => Float32Array.from({ length: n }, (_, i) => from + i); // any 32-bit words
  const cache = { data: bits(16, 100), shape: [1, 2, 4, 4] };
  const value = { data: bits(8, 500), shape: [1, 2, 2, 4] };
  const words = (await write(cache, value, [1], "f16")) as Uint32Array;
  const got = new Float32Array(words.buffer).subarray(0, 16);
  const want = cache.data.slice();
  for (let h = 0; h < 2; h++) want.set(value.data.subarray(h * 4, h * 4 + 4), h * 8 + 2);
  expect(got).toEqual(want);
});
