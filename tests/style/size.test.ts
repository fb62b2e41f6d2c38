import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { entryPoints, nodeApart, shared } from "../../scripts/bundle-options.mjs";

/**
 * What a page loads that imports one entry point: KB (1000 bytes) of minified, gzipped code. A tenth above what was
 * measured last: raise a limit in the commit that needs it, and say what for.
 */
const most: Readonly<Record<string, { limit: number; measured: number }>> = {
  index: { limit: 206, measured: 187.1 },
  custom: { limit: 186, measured: 169.0 },
  bench: { limit: 178, measured: 161.9 },
  nn: { limit: 227, measured: 206.5 },
  models: { limit: 271, measured: 246.6 },
  chat: { limit: 272, measured: 247.1 },
  generate: { limit: 224, measured: 203.8 },
  text: { limit: 36, measured: 32.6 },
  image: { limit: 9, measured: 7.9 },
  training: { limit: 291, measured: 264.6 },
  data: { limit: 184, measured: 167.0 },
  evaluate: { limit: 207, measured: 188.0 },
  io: { limit: 187, measured: 170.4 },
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
