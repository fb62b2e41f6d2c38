import { expect, test } from "vitest";
import { kernelFiles } from "../../scripts/kernel-index.mjs";
import { read } from "../style/files.ts";

test("kernels/README.md names every kernel, and no other", () => {
  const rows = read("kernels/README.md")
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  const named = rows.flatMap((row) => [...row.split("|")[1].matchAll(/`(\w+)`/g)].map((m) => m[1]));
  expect(named.sort()).toEqual([...kernelFiles().keys()]);
});
