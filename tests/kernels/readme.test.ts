import { expect, test } from "vitest";
import { kernelFiles } from "../../scripts/kernel-index.mjs";
import { read } from "../style/files.ts";

test("kernels/README.md names every kernel under the folder that holds it, and no other", () => {
  const named: string[] = [];
  let folder = "";
  for (const line of read("kernels/README.md").split("\n")) {
    folder = /^### `(\w+\/)`/.exec(line)?.[1] ?? folder;
    if (line.startsWith("| `"))
      for (const [, name] of line.split("|")[1].matchAll(/`(\w+)`/g)) named.push(`kernels/${folder}${name}.wgsl`);
  }
  expect(named.sort()).toEqual([...kernelFiles().values()].sort());
});
