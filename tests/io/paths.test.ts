import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Llava } from "../../models/index.ts";
import { checkFiles } from "../../models/training/data.ts";
import { resumeRun, saveRun } from "../../models/training/state.ts";
import { saveCheckpoint } from "../../src/io/huggingface.ts";
import { openFolder, subfolder, TensorFiles } from "../../src/io/index.ts";
import { saveSafetensors, type ValueEntry } from "../../src/io/safetensors.ts";
import { httpFiles, memoryFiles } from "../../src/io/source.ts";
import { AdamW, Linear } from "../../src/nn/index.ts";
import { folder } from "../../src/runtime/node.ts";
import { namedPath, pathInside } from "../../src/runtime/path.ts";

const values = (data: number[]) => ({
  shape: [data.length],
  dtype: "f32" as const,
  data: async () => Float32Array.from(data),
});
const entry: ValueEntry = { shape: [1], dtype: "f32", read: () => Float32Array.of(7) };

/** Paths that leave a folder, on one system or another. */
const OUTSIDE = [
  "../victim.txt",
  "..",
  "a/../../victim.txt",
  "./../victim.txt",
  "/etc/passwd",
  "//host/share",
  "..\\victim.txt",
  "a\\..\\..\\victim.txt",
  "a/..\\..\\victim.txt",
  "\\victim.txt",
  "C:\\victim.txt",
  "c:victim.txt",
  "victim.txt\0.safetensors",
];

let world: string;
let out: string;
const victim = () => join(world, "victim.txt");
beforeEach(() => {
  world = mkdtempSync(join(tmpdir(), "shadegrad-paths-"));
  out = join(world, "out");
  mkdirSync(out);
  writeFileSync(victim(), "keep me");
});
afterEach(() => rmSync(world, { recursive: true }));
const write = (name: string, value: unknown) =>
  writeFileSync(join(out, name), typeof value === "string" ? value : JSON.stringify(value));
const save = () => saveCheckpoint(folder(out), { model_type: "x" }, { w: values([1, 2]) });

describe("a path that a file names", () => {
  test("is inside or refused", () => {
    for (const path of [...OUTSIDE, 3, null, undefined, {}]) expect(pathInside(path), String(path)).toBeUndefined();
    expect(pathInside("./coco//train2017/x.jpg")).toBe("coco/train2017/x.jpg");
    expect(pathInside("a/../b..c/..d")).toBe("b..c/..d");
    expect(pathInside("%2e%2e/x")).toBe("%2e%2e/x");
    expect(() => namedPath("../x", "out", 'out/index.json: weight_map "w"')).toThrow(
      'out/index.json: weight_map "w": "../x" is not a path inside out',
    );
  });

  test("does not leave a folder on disk, a subfolder, or the folder of a URL", async () => {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url!);
      response.writeHead(404).end();
    }).listen(0);
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/models/out`;
    for (const source of [folder(out), httpFiles(url), subfolder(memoryFiles(), "a/b")]) {
      for (const path of OUTSIDE) {
        await expect(source.read(path), path).rejects.toThrow(`is not a path inside ${source.location}`);
        await expect(source.size(path), path).rejects.toThrow(`is not a path inside ${source.location}`);
        await expect(
          (async () => source.write?.(path, [Uint8Array.of(1)]) ?? source.read(path))(),
          path,
        ).rejects.toThrow(`is not a path inside ${source.location}`);
        expect(() => subfolder(source, path), path).toThrow(`is not a path inside ${source.location}`);
      }
    }
    expect(asked).toEqual([]);
    expect(await httpFiles(url).size("%2e%2e/%2e%2e/x")).toBeUndefined();
    expect(asked).toEqual(["/models/out/%252e%252e/%252e%252e/x"]); // literal names, not parts that the server resolves
    server.close();
    expect(readFileSync(victim(), "utf8")).toBe("keep me");
  });

  test("may be a link to elsewhere, as in Hugging Face's cache", async () => {
    symlinkSync(victim(), join(out, "link.txt"));
    expect(new TextDecoder().decode(await folder(out).read("link.txt"))).toBe("keep me");
  });

  test("may be absolute only where the user names the whole disk", async () => {
    expect(await folder("/").size(victim())).toBe(7);
    await expect(folder("/").size("/../x")).rejects.toThrow("is not a path inside /");
    expect(await (await openFolder(join(out, ".."))).size("victim.txt")).toBe(7); // arguments are not restricted
  });
});

describe("saving over an old index", () => {
  test.each(["../victim.txt", "../victim.bin", "..\\victim.bin"])("leaves %s alone", async (path) => {
    const place = join(out, path);
    writeFileSync(place, "keep me");
    write("pytorch_model.bin.index.json", { weight_map: { a: path } });
    await save();
    expect(readFileSync(place, "utf8")).toBe("keep me");
    expect(existsSync(join(out, "pytorch_model.bin.index.json"))).toBe(false);
  });

  test("leaves absolute files and what a linked folder holds alone", async () => {
    mkdirSync(join(world, "other"));
    writeFileSync(join(world, "other/model.bin"), "keep me");
    symlinkSync(join(world, "other"), join(out, "link"));
    write("pytorch_model.bin.index.json", { weight_map: { a: join(world, "other/model.bin"), b: "link/model.bin" } });
    await save();
    expect(readFileSync(join(world, "other/model.bin"), "utf8")).toBe("keep me");
  });

  test("removes old shards, but no other files and not what was just written", async () => {
    for (const name of ["old-1.bin", "notes.md"]) write(name, "x");
    mkdirSync(join(out, "folder.bin"));
    symlinkSync(out, join(out, "self"));
    const names = [
      "old-1.bin",
      "notes.md",
      "folder.bin",
      "./model.safetensors",
      "self/model.safetensors",
      "config.json",
    ];
    write("pytorch_model.bin.index.json", { weight_map: Object.fromEntries(names.map((name, i) => [i, name])) });
    await save();
    expect(existsSync(join(out, "old-1.bin"))).toBe(false);
    for (const name of ["notes.md", "folder.bin", "config.json"]) expect(existsSync(join(out, name)), name).toBe(true);
    expect((await (await TensorFiles.open(folder(out), "model.safetensors")).read("w")).data).toEqual(
      Float32Array.of(1, 2),
    );
  });

  test.each(["null", "[]", "3", "{", "", '{"weight_map":null}', '{"weight_map":{"a":null,"b":[3]}}'])(
    "replaces the broken index %s",
    async (text) => {
      for (const name of ["pytorch_model.bin.index.json", "model.safetensors.index.json"]) write(name, text);
      await save();
      expect((await TensorFiles.open(folder(out), "model.safetensors")).names).toEqual(["w"]);
      expect(existsSync(join(out, "model.safetensors.index.json"))).toBe(false);
    },
  );
});

describe("reading", () => {
  test("an index does not lead out of its folder", async () => {
    await saveSafetensors(folder(world), "x.safetensors", { w: entry });
    for (const file of ["../x.safetensors", join(world, "x.safetensors"), "..\\x.safetensors", 3]) {
      write("model.safetensors.index.json", { weight_map: { w: file } });
      await expect(TensorFiles.open(folder(out), "model.safetensors.index.json")).rejects.toThrow(
        `${out}/model.safetensors.index.json: weight_map "w": ${JSON.stringify(file)} is not a path inside ${out}`,
      );
    }
    for (const index of ["null", "[]", '{"weight_map":3}']) {
      write("model.safetensors.index.json", index);
      await expect(TensorFiles.open(folder(out), "model.safetensors.index.json")).rejects.toThrow(
        'expected a "weight_map"',
      );
    }
    await saveSafetensors(folder(out), "x.safetensors", { w: entry });
    write("model.safetensors.index.json", { weight_map: { w: "./x.safetensors" } });
    expect((await TensorFiles.open(folder(out), "model.safetensors.index.json")).names).toEqual(["w"]);
  });

  test("latest.json does not lead out of its folder, and a broken one does not stop saving", async () => {
    const model = new Linear(2, 2);
    const parts = { model, optimizer: new AdamW([...model.parameters()]) };
    const state = { step: 1, losses: [], evaluations: [], identity: {} };
    await saveRun(folder(join(world, "x")), parts, state);
    for (const latest of [{ folder: "../x/checkpoint-a" }, { folder: join(world, "x/checkpoint-a") }, {}, null]) {
      write("latest.json", latest);
      await expect(resumeRun(folder(out), parts, {})).rejects.toThrow(
        new RegExp(`latest.json: folder: .* is not a path inside ${out}`),
      );
    }
    for (const latest of ["null", "{"]) {
      write("latest.json", latest);
      await saveRun(folder(out), parts, state);
      expect((await resumeRun(folder(out), parts, {}))?.step).toBe(1);
    }
  });

  test("a config's vision tower is not looked for outside", async () => {
    await save();
    write("config.json", { model_type: "llava_llama", mm_vision_tower: "../tower" });
    mkdirSync(join(world, "tower"));
    writeFileSync(join(world, "tower/config.json"), "{}");
    await expect(Llava.fromPretrained(out)).rejects.toThrow('the vision tower "../tower" is not here');
  });

  test("image names of a data set stay in the image folder", async () => {
    const sample = (image: string) => [{ where: "pairs.json, sample 0", images: [image], turns: [] }];
    for (const image of ["../victim.txt", victim()])
      await expect(checkFiles(sample(image), folder(out))).rejects.toThrow(
        `pairs.json, sample 0: image ${image}: ${JSON.stringify(image)} is not a path inside ${out}`,
      );
    mkdirSync(join(out, "coco/train2017"), { recursive: true });
    write("coco/train2017/x.jpg", "x");
    await checkFiles(sample("coco/train2017/x.jpg"), folder(out));
    await checkFiles(sample(victim()), folder("/"));
  });
});
