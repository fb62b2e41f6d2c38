import { execFileSync } from "node:child_process";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { WriteEntry } from "../../src/io/safetensors.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import { saveTorch } from "../../src/io/torch.ts";
import { folder } from "../../src/runtime/node.ts";

const fixtures = folder(join(import.meta.dirname, "fixtures")); // made by fixtures/make.py

async function values(file: TensorFiles): Promise<Record<string, [readonly number[], number[]]>> {
  const all: Record<string, [readonly number[], number[]]> = {};
  for (const name of file.names) {
    const { shape, data } = await file.read(name);
    all[name] = [shape, [...data]];
  }
  return all;
}

const want = {
  plain: [
    [3, 4],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
  ],
  turned: [
    [4, 3],
    [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11],
  ],
  part: [
    [2, 2],
    [5, 6, 9, 10],
  ],
  half: [[3], [1.5, -2, 65504]],
  brain: [
    [2, 1],
    [1, -2.5],
  ],
  ids: [[2], [7, -9]],
  scalar: [[], [7]],
};

/** A file of the fixtures with its bytes changed. */
async function changed(name: string, change: (bytes: Uint8Array) => Uint8Array) {
  return memoryFiles(new Map([["x.bin", change(new Uint8Array(await fixtures.read(name)))]]));
}

describe("PyTorch's .bin", () => {
  test.each(["state-2.bin", "state-4.bin", "trainer.bin"])(
    "%s: every dtype, views, shared storages, parameters",
    async (name) => {
      const file = await TensorFiles.open(fixtures, name);
      expect(await values(file)).toEqual(want);
      expect(file.entry("brain").dtype).toBe("BF16");
    },
  );

  test.each(["poisoned-2.bin", "poisoned-4.bin"])("%s names the file and the global; nothing runs", async (name) => {
    await expect(TensorFiles.open(fixtures, name)).rejects.toThrow(
      new RegExp(`fixtures/${name}: the pickle asks for posix.system, which is not in the list`),
    );
  });

  test("a truncated file, a view beyond its storage, an old plain pickle and a foreign zip are refused", async () => {
    const open = async (files: Awaited<ReturnType<typeof changed>>) => TensorFiles.open(files, "x.bin");
    await expect(changed("state-2.bin", (b) => b.subarray(0, b.length - 40)).then(open)).rejects.toThrow(
      /x.bin is truncated or no zip archive/,
    );
    await expect(TensorFiles.open(fixtures, "beyond.bin")).rejects.toThrow(
      /beyond.bin: tensor w ends at byte 52 of a storage of 48/,
    );
    await expect(changed("state-2.bin", () => Uint8Array.of(0x80, 2, 0x8a, 10)).then(open)).rejects.toThrow(
      /before 1.6\) is not supported/,
    );
    const zip = memoryFiles();
    await saveTorch(zip, "x.bin", {});
    const noPickle = new TextDecoder("latin1").decode(zip.files.get("x.bin")!).replaceAll("data.pkl", "data.txt");
    zip.files.set(
      "x.bin",
      Uint8Array.from(noPickle, (c) => c.charCodeAt(0)),
    );
    await expect(open(zip)).rejects.toThrow(/there is no data.pkl/);
  });

  test("shards with pytorch_model.bin.index.json; a missing shard is named", async () => {
    const files = memoryFiles();
    files.files.set("a.bin", await fixtures.read("state-2.bin"));
    const index = (map: Record<string, string>) => new TextEncoder().encode(JSON.stringify({ weight_map: map }));
    files.files.set("pytorch_model.bin.index.json", index({ plain: "a.bin", half: "a.bin" }));
    expect((await TensorFiles.open(files, "pytorch_model.bin.index.json")).names).toEqual(["plain", "half"]);
    files.files.set("pytorch_model.bin.index.json", index({ plain: "a.bin", half: "b.bin" }));
    await expect(TensorFiles.open(files, "pytorch_model.bin.index.json")).rejects.toThrow(/shards are missing: b.bin/);
  });

  test("what is written is read back, and is a pickle and an archive to Python", async ({ skip }) => {
    const path = await mkdtemp(join(tmpdir(), "torch-"));
    const f32: WriteEntry = { shape: [2, 3], dtype: "f32", read: () => Float32Array.of(1, 2, 3, 4, 5, 6) };
    const half: WriteEntry = { shape: [3], dtype: "f32", stored: "BF16", read: () => Float32Array.of(1, -2.5, 3) };
    const ids: WriteEntry = { shape: [2], dtype: "i32", read: () => Int32Array.of(-1, 5) };
    await saveTorch(folder(path), "x.bin", {
      "model.mm_projector.weight": f32,
      half,
      ids,
      one: { ...f32, shape: [6, 1] },
    });
    expect(await values(await TensorFiles.open(folder(path), "x.bin"))).toEqual({
      "model.mm_projector.weight": [
        [2, 3],
        [1, 2, 3, 4, 5, 6],
      ],
      half: [[3], [1, -2.5, 3]],
      ids: [[2], [-1, 5]],
      one: [
        [6, 1],
        [1, 2, 3, 4, 5, 6],
      ],
    });
    await writeFile(join(path, "read.py"), readWithPython);
    let output: string;
    try {
      output = execFileSync("python3", [join(path, "read.py"), join(path, "x.bin")], { encoding: "utf8" });
    } catch (error) {
      skip((error as NodeJS.ErrnoException).code === "ENOENT", "no Python here");
      throw error;
    }
    expect(JSON.parse(output)).toEqual([
      ["model.mm_projector.weight", "FloatStorage", "0", 6, 0, [2, 3], [3, 1]],
      ["half", "BFloat16Storage", "1", 3, 0, [3], [1]],
      ["ids", "IntStorage", "2", 2, 0, [2], [1]],
      ["one", "FloatStorage", "3", 6, 0, [6, 1], [1, 1]],
    ]);
  });
});

/** Opens a .bin with Python's zipfile (which checks sums) and pickle. */
const readWithPython = `
import json, pickle, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
assert all(info.header_offset >= 0 for info in archive.infolist())
class Reader(pickle.Unpickler):
    def find_class(self, module, name):
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, shape, strides, grad, hooks: [*storage, offset, shape, strides]
        return dict if name == "OrderedDict" else name
    def persistent_load(self, id):
        return [id[1], id[2], id[4]]
state = Reader(archive.open("archive/data.pkl")).load()
print(json.dumps([[name, *value] for name, value in state.items()]))
`;
