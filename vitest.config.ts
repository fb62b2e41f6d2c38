import { defineConfig } from "vitest/config";
import { childEnvironment, limitWarningFilter, root } from "./scripts/environment.mjs";

// `.wgsl` files are imported as text, in tests as in the built package.
const wgsl = {
  name: "wgsl",
  transform(code: string, id: string) {
    return id.endsWith(".wgsl") ? { code: `export default ${JSON.stringify(code)}`, map: null } : null;
  },
};

// Test processes write to a socket, where the library cannot hold Dawn's limit warnings back; their lines pass here.
const write = process.stderr.write.bind(process.stderr) as (chunk: string | Uint8Array, ...rest: unknown[]) => boolean;
const kept = limitWarningFilter();
process.stderr.write = (chunk: string | Uint8Array, ...rest: unknown[]) => {
  const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
  const filtered = kept(text);
  return write(filtered === text ? chunk : filtered, ...rest); // as bytes: a character may lie in two chunks
};

export default defineConfig({
  plugins: [wgsl],
  test: {
    include: ["tests/**/*.test.ts"],
    pool: "forks", // Dawn crashes in worker threads
    env: { ...childEnvironment(), SHADEGRAD_CACHE: `${root}/.build/test-cache` }, // not what this machine was tuned to
    testTimeout: 120_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
