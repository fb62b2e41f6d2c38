import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { entryPoints, nodeApart, shared } from "../../scripts/bundle-options.mjs";

/**
 * What a page loads that imports one entry point: KB (1000 bytes) of minified, gzipped code. A tenth above what was
 * measured last: raise a limit in the commit that needs it, and say what for.
 */
const most: Readonly<Record<string, { limit: number; measured: number }>> = {
  index: { limit: 122, measured: 110.5 },
  custom: { limit: 118, measured: 107.3 },
  bench: { limit: 148, measured: 134.1 },
  nn: { limit: 123, measured: 111.4 },
  models: { limit: 200, measured: 181.2 },
  chat: { limit: 199, measured: 180.3 },
  generate: { limit: 157, measured: 142.2 },
  text: { limit: 36, measured: 32.6 },
  image: { limit: 9, measured: 7.9 },
  training: { limit: 218, measured: 197.3 },
  data: { limit: 5, measured: 4.4 },
  evaluate: { limit: 138, measured: 125.4 },
  io: { limit: 12, measured: 10.3 },
};

/** The parts of a bundle by folder, largest first, as a message. */
function partsOf(inputs: Record<string, { bytesInOutput: number }>): string {
  const sizes: Record<string, number> = {};
  for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
    const [, name] = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path) ?? [];
    const folder = name ?? path.split("/").slice(0, 2).join("/");
    sizes[folder] = (sizes[folder] ?? 0) + bytesInOutput;
  }
  const sorted = Object.entries(sizes).sort((a, b) => b[1] - a[1]);
  return sorted.map(([folder, bytes]) => `${folder} ${(bytes / 1000).toFixed(0)} KB`).join(", ");
}

test("every entry point has a limit", () => {
  expect(Object.keys(most).sort()).toEqual(Object.keys(entryPoints()).sort());
});

test.each(Object.entries(entryPoints()))("%s is no larger than its limit", async (name, source) => {
  const { outputFiles, metafile } = await build({
    ...shared,
    entryPoints: [source],
    outdir: "unused",
    platform: "neutral",
    minify: true,
    legalComments: "none",
    write: false,
    plugins: [nodeApart],
  });
  const code = outputFiles![0];
  const size = gzipSync(code.contents, { level: 9 }).length / 1000;
  const [{ inputs }] = Object.values(metafile!.outputs);
  const what = `${name}: ${size.toFixed(1)} KB gzipped, ${(code.contents.length / 1000).toFixed(0)} KB minified: ${partsOf(inputs)}`;
  expect(size, what).toBeLessThanOrEqual(most[name]?.limit ?? 0);
});
