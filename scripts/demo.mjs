// `npm run demo -- [arguments]` on any machine with Node: packages, adapter, then examples/demo/main.ts.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { root } from "./environment.mjs";
import { run } from "./run.mjs";
import { ensureAdapter, ensurePackages } from "./setup-adapter.mjs";

const folder = join(root, "examples/demo");
ensurePackages();
if (existsSync(join(folder, "package-lock.json"))) ensurePackages(folder);
if (!ensureAdapter()) console.log("Continuing without a GPU: the f64 interpreter is exact and very slow.");
process.exitCode = await run(join(folder, "main.ts"), process.argv.slice(2));
