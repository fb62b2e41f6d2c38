// Installs the peers on first use, bundles the benchmark and runs it in one Node process.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { childEnvironment, root } from "../../scripts/environment.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
if (!existsSync(`${here}node_modules/onnxruntime-node`)) {
  console.log("bench:peers: installing jax-js, TensorFlow.js and ONNX Runtime into bench/peers (510 MB)");
  const install = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: here,
    stdio: "inherit",
  });
  if (install.status !== 0) process.exit(install.status ?? 1);
}
await build({
  entryPoints: [`${here}run.ts`],
  outfile: `${here}.build/run.mjs`,
  bundle: true,
  format: "esm",
  platform: "node",
  // TensorFlow.js has its gradients in ES modules that only a bundler resolves; its Node build lacks them.
  mainFields: ["module", "main"],
  external: ["webgpu", "@jax-js/jax", "onnxruntime-web", "onnxruntime-node"],
  loader: { ".wgsl": "text" },
  banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
  sourcemap: "inline",
  logLevel: "warning",
});
const child = spawnSync(
  process.execPath,
  ["--enable-source-maps", "--expose-gc", `${here}.build/run.mjs`, ...process.argv.slice(2)],
  {
    stdio: "inherit",
    cwd: root,
    env: childEnvironment(),
  },
);
process.exit(child.status ?? 1);
