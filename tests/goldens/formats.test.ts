import { expect, test } from "vitest";
import { toBfloat16, toHalf } from "../../src/graph/dtype.ts";
import { listCases, openCase, skipIfNone } from "./cases.ts";

const bits = (values: ArrayLike<number>) =>
  Array.from(new Uint32Array(Float32Array.from(values).buffer), (word) =>
    (word & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 : word,
  );

const cases = listCases("formats").filter(({ name }) => name === "safetensors");
skipIfNone("formats", cases);

test.each(cases)("formats/$name", async ({ path, json }) => {
  const file = await openCase(path, "mixed");
  const specs: Record<string, { shape: number[] }> = json["mixed.safetensors"];
  expect(file.names.sort()).toEqual(Object.keys(specs).sort());
  expect(file.metadata).toEqual(json.metadata);
  for (const [name, { shape }] of Object.entries(specs)) expect(file.entry(name).shape).toEqual(shape);
  for (const name of ["i32", "i16", "i8", "u8", "scalar"]) {
    expect([...(await file.read(name)).data]).toEqual(json.values[name].map(Number));
  }
  expect([...(await file.read("bool")).data]).toEqual(json.values.bool.map((x: string) => Number(x === "True")));
  expect((await file.read("empty")).data.length).toBe(0);
  // 64-bit values: exact as bytes, refused where i32 cannot hold them, rounded once to f32.
  expect([...new BigInt64Array((await file.bytes("i64")).slice().buffer)].map(String)).toEqual(json.values.i64);
  await expect(file.read("i64")).rejects.toThrow("does not fit i32");
  expect([...(await file.read("f64")).data]).toEqual(json.f64_values.map((x: string) => Math.fround(Number(x))));
  expect(bits((await file.read("f16")).data)).toEqual(json.f16_as_f32_bits);
  expect(bits((await file.read("bf16")).data)).toEqual(json.bf16_as_f32_bits);
  const x = (await (await openCase(path, "f32")).read("x")).data;
  expect(Array.from(x, toHalf)).toEqual(json.f32_to_f16_bits);
  expect(Array.from(x, toBfloat16)).toEqual(json.f32_to_bf16_bits);
});
