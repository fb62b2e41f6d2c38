import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const folder = new URL("../../kernels/", import.meta.url);

test("kernels/README.md names every kernel, and no other", () => {
  const files = readdirSync(folder).flatMap((name) => (name.endsWith(".wgsl") ? [name.slice(0, -5)] : []));
  const rows = readFileSync(new URL("README.md", folder), "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  const named = rows.flatMap((row) => [...row.split("|")[1].matchAll(/`(\w+)`/g)].map((m) => m[1]));
  expect(named.sort()).toEqual(files.sort());
});
