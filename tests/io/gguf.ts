/** Writes GGUF files for tests, after the format's description. */

export interface GgufTensor {
  name: string;
  shape: number[];
  /** ggml's number of the type. */
  type: number;
  bytes: Uint8Array;
}
/** A value; [type, value] where the type cannot be told from it. */
export type GgufValue =
  | string
  | number
  | boolean
  | readonly string[]
  | readonly [number, number]
  | Float32Array
  | Int32Array;

export function ggufFile(metadata: Record<string, GgufValue>, tensors: readonly GgufTensor[]): Uint8Array {
  const out: number[] = [];
  const number = (value: number | bigint, bytes: number) => {
    for (let i = 0; i < bytes; i++) out.push(Number((BigInt(value) >> BigInt(8 * i)) & 255n));
  };
  const f32 = (value: number) => out.push(...new Uint8Array(Float32Array.of(value).buffer));
  const text = (value: string) => {
    const bytes = new TextEncoder().encode(value);
    number(bytes.length, 8);
    out.push(...bytes);
  };
  out.push(...new TextEncoder().encode("GGUF"));
  number(3, 4);
  number(tensors.length, 8);
  number(Object.keys(metadata).length, 8);
  for (const [key, value] of Object.entries(metadata)) {
    text(key);
    if (typeof value === "string") number(8, 4), text(value);
    else if (typeof value === "boolean") number(7, 4), number(Number(value), 1);
    else if (typeof value === "number") number(4, 4), number(value, 4);
    else if (value instanceof Float32Array) number(9, 4), number(6, 4), number(value.length, 8), value.forEach(f32);
    else if (value instanceof Int32Array)
      number(9, 4), number(5, 4), number(value.length, 8), value.forEach((v) => number(v, 4));
    else if (typeof value[0] === "string")
      number(9, 4), number(8, 4), number(value.length, 8), (value as string[]).forEach(text);
    else if (value[0] === 6) number(6, 4), f32(value[1] as number);
    else throw new Error(`no value of GGUF: ${String(value)}`);
  }
  let offset = 0;
  for (const { name, shape, type, bytes } of tensors) {
    text(name);
    number(shape.length, 4);
    for (const dim of [...shape].reverse()) number(dim, 8);
    number(type, 4);
    number(offset, 8);
    offset += Math.ceil(bytes.length / 32) * 32;
  }
  while (out.length % 32) out.push(0);
  for (const { bytes } of tensors) {
    for (const byte of bytes) out.push(byte);
    if (bytes !== tensors.at(-1)!.bytes) while (out.length % 32) out.push(0);
  }
  return Uint8Array.from(out);
}
