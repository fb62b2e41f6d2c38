// Other runtimes in which the package is tested: Chromium and Deno. The set-up before the tests installs them.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { aptAccess, aptInstall, release, thisMachine } from "./apt.mjs";
import { childEnvironment, root } from "./environment.mjs";

/** Path of a Chromium, or undefined. CHROMIUM_PATH can name one outside the PATH. */
export function findChromium() {
  for (const name of [process.env.CHROMIUM_PATH, "chromium", "chromium-browser", "google-chrome"]) {
    if (!name || spawnSync(name, ["--version"], { stdio: "ignore" }).status !== 0) continue;
    return spawnSync("which", [name], { encoding: "utf8" }).stdout?.trim() || name;
  }
  return undefined;
}

const denoFolder = join(root, ".cache/deno");

/** Path of the Deno in this checkout, or undefined. */
export function findDeno() {
  const path = join(denoFolder, "node_modules/.bin", process.platform === "win32" ? "deno.cmd" : "deno");
  return existsSync(path) ? path : undefined;
}

/** Why Chromium cannot be installed here. Undefined if it can. */
export function chromiumObstacle(machine = thisMachine) {
  const access = aptAccess(machine);
  if (!access.sudo) return access.problem;
  if (release(machine).id === "ubuntu") return "Ubuntu has Chromium as a snap only; CHROMIUM_PATH may name another";
  return undefined;
}

/** Installs Chromium. Returns why that failed, or undefined. */
export function installChromium(machine = thisMachine) {
  return chromiumObstacle(machine) ?? aptInstall(machine, aptAccess(machine).sudo, ["chromium"])?.problem;
}

/** Installs Deno into the checkout. Returns why that failed, or undefined. */
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
