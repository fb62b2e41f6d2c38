import { defineConfig } from "vitest/config";
import { childEnvironment, root } from "./scripts/environment.mjs";

// `.wgsl` files are imported as text, in tests as in the built package.
const wgsl = {
  name: "wgsl",
  transform(code: string, id: string) {
    return id.endsWith(".wgsl") ? { code: `export default ${JSON.stringify(code)}`, map: null } : null;
  },
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
