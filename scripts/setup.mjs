// Makes sure that the machine has what a command needs: npm packages, a WebGPU adapter, and for tests Chromium and Deno.
// Says in one line what it installs before it installs anything. SHADEGRAD_NO_INSTALL=1: the npm packages alone.
import "./node-version.mjs";
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureAdapter, probeAdapter } from "./adapter.mjs";
import { aptAccess, thisMachine } from "./apt.mjs";
import { childEnvironment, root } from "./environment.mjs";
import { chromiumObstacle, findChromium, findDeno, installChromium, installDeno } from "./runtimes.mjs";

/** A set-up that cannot go on. Its message says what to do. */
class SetupError extends Error {}

/** Whether node_modules lacks a package of the lock file, or has it in another version. */
function packagesMissing() {
  const installed = join(root, "node_modules/.package-lock.json");
  if (!existsSync(installed)) return true;
  const versions = (file) => JSON.parse(readFileSync(file, "utf8")).packages;
  const have = versions(installed);
  const want = Object.entries(versions(join(root, "package-lock.json")));
  return want.some(([name, wanted]) => name !== "" && !wanted.optional && have[name]?.version !== wanted.version);
}

function installPackages() {
  const args = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
  const shell = process.platform === "win32"; // npm is npm.cmd there
  const { status, error } = spawnSync("npm", args, { cwd: root, stdio: "inherit", shell, env: childEnvironment() });
  if (error) throw new SetupError(`npm cannot be run (${error.code ?? error.message}): install Node with its npm`);
  if (status !== 0)
    throw new SetupError(
      "npm ci failed, see its message above. It needs the network (or npm's cache), and a checkout that this user may write.",
    );
}

/** What is missing, as the parts of one sentence with the sizes of the downloads. */
function missingParts(packages, adapter, runtimes) {
  const driver = "a software Vulkan driver (55 MB)";
  return [
    packages && "the npm packages (150 MB)",
    adapter === "unknown" && aptAccess().sudo && `${driver} if there is no adapter`,
    adapter === "missing" && aptAccess().sudo && driver,
    runtimes && !findChromium() && !chromiumObstacle() && "Chromium (206 MB)",
    runtimes && !findDeno() && !process.env.SHADEGRAD_NO_INSTALL && "Deno (41 MB)",
  ].filter(Boolean);
}

/**
 * Sets the machine up for `command`; `runtimes`: with Chromium and Deno, whose absence only skips tests.
 * Ends the process with code 1 and a message where that is impossible. `adapter: false` goes on without one.
 */
export function setUp(command, { runtimes = false, adapter = true } = {}) {
  try {
    // Parts of a checkout belong to root where root has run a command in it before.
    const locked = ["", "node_modules", ".build"].map((name) => join(root, name)).find((path) => !writable(path));
    if (locked) throw new SetupError(`this user cannot write ${locked}; change its owner, or make a clone of your own`);
    const packages = packagesMissing();
    const probed = adapter && !packages ? probeAdapter() : undefined;
    const state = !adapter || probed?.description ? "there" : packages ? "unknown" : "missing";
    const parts = missingParts(packages, state, runtimes);
    if (parts.length > 0)
      console.log(
        `${command} downloads what is missing: ${parts.join(", ")}. SHADEGRAD_NO_INSTALL=1: only npm packages.`,
      );
    if (packages) installPackages();
    if (adapter && !ensureAdapter(thisMachine, probeAdapter, probed)) process.exit(1);
    if (runtimes && !findChromium()) note("Chromium", installChromium());
    if (runtimes && !findDeno()) note("Deno", installDeno());
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`\n${command}: ${error.message}`);
    process.exit(1);
  }
}

/** Whether `path` can be written, or made. */
function writable(path) {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch (error) {
    return error.code === "ENOENT";
  }
}

function note(name, problem) {
  if (problem) console.log(`skipped: no ${name} (${problem}): its tests are not run.`);
}

if (process.argv[1] && import.meta.url === pathToFileURL(resolve(process.argv[1])).href) setUp("npm run setup");
