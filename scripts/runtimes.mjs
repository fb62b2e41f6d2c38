// The other places where the package is tested: Chromium and Deno. Found here, installed in the set-up before the tests.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { aptAccess, aptInstall, release, thisMachine } from "./apt.mjs";
import { childEnvironment, root } from "./environment.mjs";

/** The path of a Chromium, or undefined. CHROMIUM_PATH names one that is not on the PATH. */
export function findChromium() {
  for (const name of [process.env.CHROMIUM_PATH, "chromium", "chromium-browser", "google-chrome"]) {
    if (!name || spawnSync(name, ["--version"], { stdio: "ignore" }).status !== 0) continue;
    return spawnSync("which", [name], { encoding: "utf8" }).stdout?.trim() || name;
  }
  return undefined;
}

const denoFolder = join(root, ".cache/deno");

/** The path of the checkout's Deno, or undefined. */
export function findDeno() {
  const path = join(denoFolder, "node_modules/.bin", process.platform === "win32" ? "deno.cmd" : "deno");
  return existsSync(path) ? path : undefined;
}

/** Whether Chromium can be installed here: undefined, or why not. */
export function chromiumObstacle(machine = thisMachine) {
  const access = aptAccess(machine);
  if (!access.sudo) return access.problem;
  if (release(machine).id === "ubuntu") return "Ubuntu has Chromium as a snap only; CHROMIUM_PATH may name another";
  return undefined;
}

/** Installs Chromium. Returns undefined, or why there is none. */
export function installChromium(machine = thisMachine) {
  return chromiumObstacle(machine) ?? aptInstall(machine, aptAccess(machine).sudo, ["chromium"])?.problem;
}

/** Installs Deno into the checkout. Returns undefined, or why there is none. */
export function installDeno() {
  if (process.env.SHADEGRAD_NO_INSTALL) return "SHADEGRAD_NO_INSTALL is set";
  const args = [
    "install",
    "--prefix",
    denoFolder,
    "--no-save",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "deno@2",
  ];
  const shell = process.platform === "win32"; // npm is npm.cmd there
  const { status } = spawnSync("npm", args, { stdio: ["ignore", "ignore", "inherit"], shell, env: childEnvironment() });
  return status === 0 ? undefined : "npm could not install it";
}
