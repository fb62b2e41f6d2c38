// `npm run demo -- [arguments]` on any machine with Node: installs packages and an adapter, then runs examples/demo/main.ts.
import "./node-version.mjs";
import { join } from "node:path";
import { root } from "./environment.mjs";
import { run } from "./run.mjs";
import { setUp } from "./setup.mjs";

const args = process.argv.slice(2);
setUp("npm run demo", { adapter: !args.includes("--help") && !args.includes("-h") });
process.exitCode = await run(join(root, "examples/demo/main.ts"), args);
