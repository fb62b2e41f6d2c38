import { expect, test } from "vitest";
import { kernelNames, kernelSource } from "../../kernels/index.ts";
import { kernelRegistry } from "../../kernels/registry.ts";
import { kernelFiles, kernelIndex } from "../../scripts/kernel-index.mjs";
import { read } from "../style/files.ts";

test("kernels/index.ts is what `npm run kernels:index` writes", () => {
  expect(read("kernels/index.ts")).toBe(kernelIndex());
});

test("every kernel is known by the name of its file", () => {
  const files = kernelFiles();
  expect(kernelNames()).toEqual([...files.keys()]);
  for (const [name, path] of files) expect(kernelSource(name)).toBe(read(path));
});

test("a new file needs no edit by hand", () => {
  const text = kernelIndex(new Map([["scale_rows", "kernels/rows/scale_rows.wgsl"]]));
  expect(text).toContain('import scale_rows from "./rows/scale_rows.wgsl";');
  expect(text).toContain("kernelRegistry({\n  scale_rows,\n});");
});

test("users add kernels under new names, and unknown names are errors", () => {
  const kernels = kernelRegistry({ softmax: "// softmax" });
  kernels.addKernel("mine", "// mine");
  expect(kernels.kernelSource("mine")).toBe("// mine");
  expect(kernels.kernelNames()).toEqual(["softmax", "mine"]);
  expect(() => kernels.addKernel("softmax", "")).toThrow("there is a kernel softmax already");
  expect(() => kernels.addKernel("mine", "")).toThrow("there is a kernel mine already");
  expect(() => kernels.kernelSource("theirs")).toThrow("there is no kernel theirs; kernels: softmax, mine");
  expect(() => kernels.kernelSource("constructor")).toThrow("there is no kernel constructor"); // no field of Object
});
