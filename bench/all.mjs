// `npm run bench:all`: shadegrad's figures, the peers', first calls, and then the tables of the pages.
// Arguments go to every part: `npm run bench:all -- --only matmul,attn`.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../scripts/environment.mjs";

const args = process.argv.slice(2);
const whole = args.length === 0;
// An empty cache per step, as in a new installation: shipped choices apply, choices measured on this machine do not.
const caches = mkdtempSync(join(tmpdir(), "shadegrad-bench-"));
process.on("exit", () => rmSync(caches, { recursive: true, force: true }));
const steps = [
  ["bench", "--parts", "tuned", "--ship", ...args], // first, because the other steps use the choices that it ships
  ["bench", "--parts", `kernels,train,generate,ladder${whole ? ",overhead,cold" : ""}`, ...args],
  ["bench:peers", ...args],
  ...(whole ? [["bench:peers", "--cold", "decoder_train_step", "--peers", "ours,jax,tfjs"]] : []),
  ["bench:report"],
];
for (const [script, ...rest] of steps) {
  const started = performance.now();
  console.log(`\nnpm run ${script} -- ${rest.join(" ")}`);
  const env = { ...process.env, SHADEGRAD_CACHE: join(caches, String(started)) };
  const { status } = spawnSync("npm", ["run", "-s", script, "--", ...rest], { cwd: root, stdio: "inherit", env });
  console.log(`${script}: ${Math.round((performance.now() - started) / 1000)} s`);
  if (status !== 0) process.exit(status ?? 1);
}
