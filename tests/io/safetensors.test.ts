import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openCheckpoint, saveCheckpoint } from "../../src/io/huggingface.ts";
import { saveSafetensors, type ValueEntry } from "../../src/io/safetensors.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import { folder } from "../../src/runtime/node.ts";

const f32 = (values: number[], shape: number[]): ValueEntry => ({
  shape,
  dtype: "f32",
  read: () => Float32Array.from(values),
});

/** A file with an arbitrary header, for the ways a file can be broken. */
function file(header: string, data = new Uint8Array(0), length = header.length) {
  const bytes = new Uint8Array(8 + header.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(new TextEncoder().encode(header), 8);
  bytes.set(data, 8 + header.length);
  return memoryFiles(new Map([["x.safetensors", bytes]]));
}

const entry = (dtype: string, shape: number[], offsets: number[]) =>
  JSON.stringify({ w: { dtype, shape, data_offsets: offsets } });

describe("safetensors", () => {
  test("what is written is read back, with names, shapes, types and metadata", async () => {
    const files = memoryFiles();
    const tensors: Record<string, ValueEntry> = {
      "a.weight": f32([1, -2.5, 3e-8, 4], [2, 2]),
      scalar: f32([7], []),
      empty: f32([], [0, 3]),
      ids: { shape: [2], dtype: "i32", read: () => Int32Array.of(-1, 5) },
      mask: { shape: [3], dtype: "bool", read: () => Uint32Array.of(1, 0, 1) },
    };
    await saveSafetensors(files, "x.safetensors", tensors, { metadata: { format: "pt", note: "ünï" } });
    const read = await TensorFiles.open(files, "x.safetensors");
    expect(read.names).toEqual(Object.keys(tensors));
    expect(read.metadata).toEqual({ format: "pt", note: "ünï" });
    for (const [name, want] of Object.entries(tensors)) {
      const got = await read.read(name);
      expect(got).toEqual({ data: await want.read(), shape: want.shape, dtype: want.dtype });
    }
  });

  test("16-bit files round to nearest even and load as f32", async () => {
    const files = memoryFiles();
    await saveSafetensors(
      files,
      "h.safetensors",
      { w: f32([1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65504, 1e6], [5]) },
      { float: "F16" },
    );
    await saveSafetensors(
      files,
      "b.safetensors",
      { w: f32([1, 1 + 2 ** -8, 1 + 3 * 2 ** -8], [3]) },
      { float: "BF16" },
    );
    const half = await TensorFiles.open(files, "h.safetensors");
    expect([...(await half.read("w")).data]).toEqual([1, 1, 1 + 2 ** -9, 65504, Infinity]);
    const brain = await TensorFiles.open(files, "b.safetensors");
    expect([...(await brain.read("w")).data]).toEqual([1, 1, 1 + 2 ** -6]);
  });

  test.each([
    ["a missing file", memoryFiles(), /no such file/],
    ["a file too short for a header", memoryFiles(new Map([["x.safetensors", new Uint8Array(3)]])), /has 3 bytes/],
    ["a header longer than the file", file("{}", undefined, 999), /gives its header 999 bytes, and the file has 10/],
    ["a header that is no JSON", file("{oops"), /header is not valid JSON/],
    ["an unknown dtype", file(entry("F9", [1], [0, 4]), new Uint8Array(4)), /dtype F9; known are F64 F32/],
    ["a tensor beyond the end", file(entry("F32", [2], [0, 8]), new Uint8Array(5)), /truncated: tensor w ends/],
    [
      "sizes that contradict the shape",
      file(entry("F32", [2], [0, 4]), new Uint8Array(4)),
      /F32 \[2\] takes 8 bytes, the header gives 4/,
    ],
    ["a negative dim", file(entry("F32", [-1], [0, 4]), new Uint8Array(4)), /expected dtype, shape and data_offsets/],
    [
      "tensors that overlap",
      file(
        JSON.stringify({
          a: { dtype: "F32", shape: [1], data_offsets: [0, 4] },
          b: { dtype: "F32", shape: [1], data_offsets: [2, 6] },
        }),
        new Uint8Array(6),
      ),
      /tensors a and b overlap/,
    ],
  ])("%s is refused", async (_, files, message) => {
    await expect(TensorFiles.open(files, "x.safetensors")).rejects.toThrow(message);
  });

  test("integers that do not fit are refused, not wrapped", async () => {
    const data = new Uint8Array(new BigInt64Array([5n, 2n ** 40n]).buffer);
    const files = await TensorFiles.open(file(entry("I64", [2], [0, 16]), data), "x.safetensors");
    await expect(files.read("w")).rejects.toThrow(/1099511627776 at index 1 \(stored as I64\) does not fit i32/);
    await expect(files.read("v")).rejects.toThrow(/no tensor v; there are w/);
  });
});

describe("checkpoint folders", () => {
  const state = () =>
    Object.fromEntries(
      ["a", "b", "c"].map((name, i) => [
        name,
        { shape: [4], dtype: "f32" as const, data: async () => Float32Array.of(i, 1, 2, 3) },
      ]),
    );

  test("a large state is cut into shards with an index, on disk, and read back", async () => {
    const path = await mkdtemp(join(tmpdir(), "checkpoint-"));
    await saveCheckpoint(folder(path), { model_type: "x" }, state(), { maxShardBytes: 32 });
    expect((await readdir(path)).sort()).toEqual([
      "config.json",
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
      "model.safetensors.index.json",
    ]);
    const { config, tensors } = await openCheckpoint(folder(path));
    expect(config).toEqual({ model_type: "x" });
    expect(tensors.names).toEqual(["a", "b", "c"]);
    expect([...(await tensors.read("c")).data]).toEqual([2, 1, 2, 3]);
  });

  test("a new save takes the place of the old one, whatever its shards were called; one that fails changes nothing", async () => {
    const path = await mkdtemp(join(tmpdir(), "checkpoint-"));
    const disk = folder(path);
    const first = async (name: string) => [...(await (await openCheckpoint(disk)).tensors.read(name)).data][1];
    const version = (value: number) =>
      Object.fromEntries(
        ["a", "b", "c"].map((name) => [
          name,
          { shape: [4], dtype: "f32" as const, data: async () => new Float32Array(4).fill(value) },
        ]),
      );
    await saveCheckpoint(disk, {}, version(1));
    await saveCheckpoint(disk, {}, version(2), { maxShardBytes: 16 });
    expect(await first("c")).toBe(2);
    await saveCheckpoint(disk, {}, version(3), { maxShardBytes: 32 });
    expect((await readdir(path)).filter((file) => file.includes("safetensors"))).toHaveLength(3);
    const before = await readdir(path);
    const broken = { ...version(4), c: { ...version(4).c, data: () => Promise.reject(new Error("device lost")) } };
    await expect(saveCheckpoint(disk, {}, broken, { maxShardBytes: 16 })).rejects.toThrow("device lost");
    expect(await readdir(path)).toEqual(before);
    expect([await first("a"), await first("c")]).toEqual([3, 3]);
    await saveCheckpoint(disk, {}, version(5));
    expect((await readdir(path)).sort()).toEqual(["config.json", "model.safetensors"]);
    expect(await first("b")).toBe(5);
  });

  test("a write that fails leaves neither the file nor a part of it, and keeps what was there", async () => {
    const path = await mkdtemp(join(tmpdir(), "checkpoint-"));
    const disk = folder(path);
    await saveSafetensors(disk, "model.safetensors", { w: f32([1], [1]) });
    const before = await readFile(join(path, "model.safetensors"));
    const broken: Record<string, ValueEntry> = {
      w: f32([2], [1]),
      bad: { shape: [2], dtype: "f32", read: () => Promise.reject(new Error("device lost")) },
    };
    await expect(saveSafetensors(disk, "model.safetensors", broken)).rejects.toThrow("device lost");
    await expect(saveSafetensors(disk, "other.safetensors", { w: f32([1, 2], [1]) })).rejects.toThrow(
      "tensor w: got 2 values for shape [1], expected 1",
    );
    expect(await readdir(path)).toEqual(["model.safetensors"]);
    expect(await readFile(join(path, "model.safetensors"))).toEqual(before);
  });

  test("a missing shard, an unlisted tensor and a folder without weights are named", async () => {
    const files = memoryFiles();
    await expect(openCheckpoint(files)).rejects.toThrow("memory: no config.json");
    await saveCheckpoint(files, {}, state(), { maxShardBytes: 32 });
    const shard = "model-00002-of-00002.safetensors";
    const bytes = files.files.get(shard)!;
    files.files.delete(shard);
    await expect(openCheckpoint(files)).rejects.toThrow(`these shards are missing: ${shard}`);
    files.files.set(shard, bytes);
    files.files.set(
      "model.safetensors.index.json",
      new TextEncoder().encode(JSON.stringify({ weight_map: { a: shard } })),
    );
    await expect(openCheckpoint(files)).rejects.toThrow("not in the file it is listed for: a");
    files.files.delete("model.safetensors.index.json");
    await expect(openCheckpoint(files)).rejects.toThrow("memory: expected weights: one of model.safetensors");
  });
});
