import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import type { InitOptions } from "../../src/runtime/device.ts";
import { currentDevice } from "../../src/runtime/session.ts";
import { losses, values } from "./decoder.ts";

test("a decoder trains alike on lesser devices", async () => {
  const want = await losses({ backend: "reference" });
  expect(want[3]).toBeLessThan(want[0]);
  const settings: InitOptions[] = [
    {},
    { defaultLimits: true },
    { disable: ["subgroups"] },
    { defaultLimits: true, disable: ["subgroups", "shader-f16", "timestamp-query"] },
  ];
  for (const setting of settings) {
    const got = await losses({ backend: "webgpu", ...setting });
    got.forEach((v, i) => expect(v, JSON.stringify(setting)).toBeCloseTo(want[i], 4));
    if (setting.defaultLimits)
      expect(currentDevice()!.info).toMatchObject({
        maxStorageBuffers: 8,
        maxInvocations: 256,
        maxWorkgroupBytes: 16384,
      });
  }
});

/** llvmpipe's vectors decide its subgroup size, for the whole process; the rest of the tests has 8. */
test.each([
  [128, 4],
  [512, 16],
])(
  "with vectors of %i bits, subgroups of %i, kernels compute the same",
  async (width, subgroupSize) => {
    const folder = join(root, ".build/limits");
    mkdirSync(folder, { recursive: true });
    const program = join(folder, "child.ts");
    writeFileSync(
      program,
      `import { values } from ${JSON.stringify(join(root, "tests/engine/decoder.ts"))};
import { currentDevice } from ${JSON.stringify(join(root, "src/runtime/session.ts"))};
console.log(JSON.stringify({ values: await values({ backend: "webgpu", tune: false }), info: currentDevice().info }));
process.exit(0);`,
    );
    const env = { ...childEnvironment(), LP_NATIVE_VECTOR_WIDTH: String(width) };
    const printed = execFileSync(process.execPath, [await bundle(program)], { encoding: "utf8", env });
    const got = JSON.parse(printed.trim().split("\n").at(-1)!);
    if (/llvmpipe/.test(got.info.description)) expect(got.info.subgroupSize).toBe(subgroupSize);
    const want = await values({ backend: "reference" });
    expect(got.values).toHaveLength(want.length);
    const worst = want.reduce(
      (most, x, i) => Math.max(most, Math.abs(got.values[i] - x) / Math.max(1, Math.abs(x))),
      0,
    );
    expect(worst).toBeLessThan(1e-5);
  },
  600_000,
);
