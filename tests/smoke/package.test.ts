import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, transformSync } from "esbuild";
import { beforeAll, describe, expect, test } from "vitest";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { findChromium, findDeno } from "../../scripts/runtimes.mjs";
import { runInBrowser } from "./browser.ts";
import { folder, installed, installPackage, losses, readmeExample, readmePage } from "./package.ts";

const SLOW = 600_000;
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
let files: string[] = [];
let expected: number[] = [];

const run = (program: string, args: string[]) =>
  execFileSync(program, args, { cwd: folder, encoding: "utf8", env: childEnvironment(), timeout: 300_000 });

/** Where a page finds the package's entry points. */
const imports: Record<string, string> = {};
for (const [name, target] of Object.entries<{ default?: string }>(manifest.exports)) {
  if (target.default) imports[join("shadegrad", name)] = join("/node_modules/shadegrad", target.default);
}

function expectSameLosses(output: string): void {
  const got = losses(output);
  expect(got.length).toBe(expected.length);
  got.forEach((loss, i) => {
    expect(Math.abs(loss - expected[i]), `loss ${i}: ${loss} against Node's ${expected[i]}`).toBeLessThanOrEqual(1e-4);
  });
}

beforeAll(() => {
  files = installPackage();
  expected = losses(run(process.execPath, ["example.mjs"]));
}, SLOW);

describe("the README's example, from the packed package", () => {
  test("is ten lines", () => {
    const lines = readmeExample()
      .split("\n")
      .filter((line) => /\w/.test(line) && !/^import/.test(line));
    expect(lines.length).toBe(10);
  });

  test("trains in Node", () => {
    expect(expected.length).toBeGreaterThanOrEqual(5);
    expect(expected.at(-1)).toBeLessThan(0.7 * expected[0]);
  });

  test(
    "gives the same losses in Chromium",
    async (context) => {
      const chromium = findChromium();
      if (!chromium) return context.skip("no Chromium");
      expectSameLosses(await runInBrowser(chromium, folder, "example.mjs", { imports }));
    },
    SLOW,
  );

  test(
    "gives the same losses in Deno",
    (context) => {
      const deno = findDeno();
      if (!deno) return context.skip("no Deno");
      expectSameLosses(run(deno, ["run", "-A", "--node-modules-dir=manual", "example.mjs"]));
    },
    SLOW,
  );
});

test(
  "the README's page runs in Chromium",
  async (context) => {
    const chromium = findChromium();
    if (!chromium) return context.skip("no Chromium");
    const { importMap, module } = readmePage();
    writeFileSync(join(folder, "page.mjs"), module);
    expect(await runInBrowser(chromium, folder, "page.mjs", importMap)).toBe("5");
  },
  SLOW,
);

test(
  "a page remembers what it tuned (IndexedDB)",
  async (context) => {
    const chromium = findChromium();
    if (!chromium) return context.skip("no Chromium");
    writeFileSync(
      join(folder, "tuning.mjs"),
      `import { init, rand, tune } from "shadegrad";
const product = () => rand(40, 24).matmul(rand(24, 48)).sum().item();
await init({ backend: "webgpu", tune: false });
const first = await tune(product);
await init({ backend: "webgpu" });
console.log(JSON.stringify([first.length > 0, (await tune(product)).length]));`,
    );
    const printed = await runInBrowser(chromium, folder, "tuning.mjs", { imports });
    expect(JSON.parse(printed.split("\n").at(-1)!)).toEqual([true, 0]);
  },
  SLOW,
);

test(
  "docs/custom.md runs from the packed package: ops, a kernel, a function, a lowering and timings from outside",
  () => {
    const page = readFileSync(join(root, "docs/custom.md"), "utf8");
    const blocks = Array.from(page.matchAll(/```ts\n([\s\S]*?)```/g), (m) => m[1]);
    expect(blocks).toHaveLength(6);
    const kernel = /wgsl: `\n([\s\S]*?)`/
      .exec(blocks[1])![1]
      .trim()
      .split("\n")
      .filter((line) => line.trim() && !line.startsWith("//"));
    expect(kernel.length).toBeLessThanOrEqual(30);
    const printed = blocks.map((code, i) => {
      const file = join(folder, `custom-${i}.mjs`);
      writeFileSync(
        file,
        transformSync(`${code}\nprocess.exit(0);`, { loader: "ts", format: "esm", target: "node20" }).code,
      );
      return run(process.execPath, [file]);
    });
    expect(printed[0]).toMatch(/0\.333\d+, 1, 1\.857/);
    expect(printed[1]).toMatch(/unit_rows→\S*mul[\s\S]*1 kernels[\s\S]*16384[\s\S]*mine/);
    expect(printed[2]).toContain("[ 10, 10, 10, 10 ]");
    expect(printed[3]).toContain("Float32Array(15)");
    expect(printed[4]).toMatch(/2, 4[\s\S]*3, 6/);
    expect(printed[5]).toMatch(/product +\d[\s\S]*product +\d[\s\S]*\nmatmul\w* \d/);
  },
  SLOW,
);

test("the command line lists its commands and what each takes", () => {
  const cli = join(installed, manifest.bin.shadegrad);
  expect(run(process.execPath, [cli])).toMatch(/usage: shadegrad <command>[\s\S]*\btune +measures/);
  expect(run(process.execPath, [cli, "tune", "--help"])).toContain("--again");
  expect(run(process.execPath, [cli, "tune", "--list"])).toContain("matmul_512x512x512");
});

describe("the package", () => {
  test("has every file that its exports and imports name", () => {
    const targets = [...Object.values(manifest.exports), ...Object.values(manifest.imports)]
      .flatMap((target) => (typeof target === "string" ? [target] : Object.values(target as Record<string, string>)))
      .filter((path) => !path.includes("*"));
    expect(targets.length).toBeGreaterThan(5);
    expect(targets.filter((path) => !files.includes(path.slice(2)))).toEqual([]);
  });

  test("has the kernels, the licence and the README, and no sources or tests", () => {
    expect(files).toEqual(expect.arrayContaining(["LICENSE", "README.md", "kernels/matmul/matmul.wgsl"]));
    expect(files.filter((path) => /^(src|tests|scripts|bench|examples)\//.test(path))).toEqual([]);
  });

  test("bundles for browsers without a Node module", async () => {
    const result = await build({
      entryPoints: [join(folder, "example.mjs")],
      bundle: true,
      write: false,
      format: "esm",
      platform: "browser",
      metafile: true,
      logLevel: "silent",
    });
    expect(result.warnings).toEqual([]);
    expect(result.outputFiles[0].text).not.toMatch(/["']node:/);
    expect(Object.keys(result.metafile.inputs).filter((path) => path.endsWith("/dist/node.js"))).toEqual([]);
  });

  test("has types that the example compiles with, in Node's and in bundlers' resolution", () => {
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    for (const [module, resolution] of [
      ["nodenext", "nodenext"],
      ["esnext", "bundler"],
    ]) {
      const options = [
        "--module",
        module,
        "--moduleResolution",
        resolution,
        "--target",
        "es2023",
        "--lib",
        "es2023,dom",
      ];
      run(process.execPath, [tsc, "--ignoreConfig", "--noEmit", "--strict", ...options, "example.ts"]);
    }
    expect(existsSync(join(installed, "dist/types/src/index.d.ts"))).toBe(true);
  });
});
