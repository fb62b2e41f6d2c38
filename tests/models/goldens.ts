import { readFileSync } from "node:fs";
import { goldenFile } from "../goldens/cases.ts";

/** A file of the golden data, or null when no root and no copy has such a case. */
export const goldenPath = (...path: string[]): string | null => goldenFile(...path) ?? null;

export function readJson<T>(file: string): T {
  return JSON.parse(readFileSync(file, "utf8")) as T;
}

/** Tensors of a .safetensors file with f32 and u8 values, for tests alone. */
export function readTensors(file: string): Record<string, { shape: number[]; data: Float32Array | Uint8Array }> {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + length)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return Object.fromEntries(
    Object.entries(header)
      .filter(([name]) => name !== "__metadata__")
      .map(
        ([
          name,
          {
            dtype,
            shape,
            data_offsets: [from, to],
          },
        ]) => {
          const raw = Uint8Array.from(bytes.subarray(8 + length + from, 8 + length + to));
          if (dtype !== "F32" && dtype !== "U8") throw new Error(`${name}: ${dtype} is not expected here`);
          return [name, { shape, data: dtype === "F32" ? new Float32Array(raw.buffer) : raw }];
        },
      ),
  );
}
