// Makes sure that the machine has what the library runs on: the npm packages and a WebGPU adapter.
// Node's own modules only. Says what it does before it does it; SHADEGRAD_NO_INSTALL=1 forbids system packages.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { childEnvironment, root } from "./environment.mjs";

/** Asks Dawn for an adapter in a child process, as a driver that fails can take its process along. */
export function probeAdapter() {
  const code = `
    const { create } = await import("webgpu");
    const adapter = await create([]).requestAdapter();
    if (adapter) console.log("adapter: " + (adapter.info.description || adapter.info.vendor || "unnamed"));
    process.exit(adapter ? 0 : 3);`;
  const child = spawnSync(process.execPath, ["--input-type=module", "-e", code], {
    cwd: root,
    env: childEnvironment(),
    encoding: "utf8",
    timeout: 60_000,
  });
  const found = /^adapter: (.*)$/m.exec(child.stdout ?? "");
  if (found) return { description: found[1] };
  return { problem: child.status === 3 ? "no adapter" : (child.stderr ?? "").trim() || `ended with ${child.signal}` };
}

/** Runs a command, shown as it is run. */
function command(name, args) {
  console.log(`$ ${[name, ...args].join(" ")}`);
  const shell = process.platform === "win32"; // npm is npm.cmd there
  const child = spawnSync(name, args, { cwd: root, stdio: "inherit", shell, env: childEnvironment() });
  if (child.error) throw child.error;
  return child.status === 0;
}

/** Installs the packages of `folder` from its lock file if they are missing or of other versions. */
export function ensurePackages(folder = root) {
  const installed = join(folder, "node_modules/.package-lock.json");
  const versions = (file) => JSON.parse(readFileSync(file, "utf8")).packages;
  if (existsSync(installed)) {
    const have = versions(installed);
    const want = Object.entries(versions(join(folder, "package-lock.json")));
    const missing = want.filter(([name, p]) => name !== "" && !p.optional && have[name]?.version !== p.version);
    if (missing.length === 0) return;
  }
  console.log(`Installing the npm packages of ${folder === root ? "this checkout" : folder} (npm ci) …`);
  if (!command("npm", ["ci", "--no-audit", "--no-fund", "--prefix", folder])) {
    throw new Error("npm ci failed: see its message above");
  }
}

/** How commands get root's rights here, or null. At a terminal, sudo may ask for the password. */
function elevation() {
  if (process.getuid?.() === 0) return [];
  if (spawnSync("sudo", ["-n", "true"]).status === 0) return ["sudo", "-n"];
  return process.stdin.isTTY && spawnSync("sudo", ["--version"]).status === 0 ? ["sudo"] : null;
}

/** Whether Debian packages can be installed here; if not, why. */
export function aptState() {
  if (process.env.SHADEGRAD_NO_INSTALL) return { problem: "SHADEGRAD_NO_INSTALL is set" };
  if (process.platform !== "linux" || spawnSync("apt-get", ["--version"]).status !== 0)
    return { problem: "no apt-get" };
  const sudo = elevation();
  return sudo ? { sudo } : { problem: "neither root nor sudo (without a terminal: passwordless sudo)" };
}

/** Installs Debian packages; false if apt refuses. */
export function aptInstall(sudo, packages, suite) {
  const apt = (...args) => {
    const [name, ...rest] = [...sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", ...args]; // sudo drops variables
    return command(name, rest);
  };
  apt("update", "-q");
  return apt("install", "-y", "-q", "--no-install-recommends", ...(suite ? ["-t", suite] : []), ...packages);
}

/** The apt sources of this machine as { uri, suites, signedBy }, from both file formats. */
function aptSources() {
  const folder = "/etc/apt/sources.list.d";
  const files = [
    "/etc/apt/sources.list",
    ...(existsSync(folder) ? readdirSync(folder).map((f) => join(folder, f)) : []),
  ];
  const sources = [];
  for (const file of files.filter((f) => existsSync(f))) {
    const text = readFileSync(file, "utf8").replace(/^\s*#.*$/gm, "");
    for (const line of text.matchAll(/^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)/gm)) {
      sources.push({ uri: line[2], suites: [line[3]], signedBy: /signed-by=(\S+)/.exec(line[1] ?? "")?.[1] });
    }
    for (const stanza of file.endsWith(".sources") ? text.split(/\n\s*\n/) : []) {
      const field = (name) => new RegExp(`^${name}:[ \\t]*(.+)$`, "mi").exec(stanza)?.[1].trim();
      if (/deb(\s|$)/.test(field("Types") ?? "") && !/^enabled:\s*no/im.test(stanza)) {
        const suites = (field("Suites") ?? "").split(/\s+/);
        for (const uri of (field("URIs") ?? "").split(/\s+/))
          sources.push({ uri, suites, signedBy: field("Signed-By") });
      }
    }
  }
  return sources;
}

/** Debian 12's own Mesa is too old for Dawn: adds its backports suite, from the mirror already in use. */
function addBackports(sudo, codename) {
  const suite = `${codename}-backports`;
  const sources = aptSources();
  if (sources.some((s) => s.suites.includes(suite))) return suite;
  const main = sources.find((s) => s.suites.includes(codename));
  if (!main) throw new Error(`no apt source with the suite ${codename} to take ${suite} from`);
  const path = `/etc/apt/sources.list.d/${suite}.sources`;
  const lines = ["Types: deb", `URIs: ${main.uri}`, `Suites: ${suite}`, "Components: main"];
  if (main.signedBy) lines.push(`Signed-By: ${main.signedBy}`);
  console.log(`Adding the suite ${suite} in ${path}`);
  if (sudo.length === 0) writeFileSync(path, lines.join("\n") + "\n");
  else spawnSync(sudo[0], [...sudo.slice(1), "tee", path], { input: lines.join("\n") + "\n" });
  return suite;
}

/** The ways to get an adapter, as the library's own error lists them. This script runs before anything is built. */
function routes() {
  const source = readFileSync(join(root, "src/runtime/device.ts"), "utf8");
  return /ADAPTER_ROUTES = `([^`]*)`/.exec(source)[1];
}

/** Finds an adapter or installs a software one where that is possible. Returns whether there is one. */
export function ensureAdapter() {
  const first = probeAdapter();
  if (first.description) {
    console.error(`WebGPU adapter: ${first.description}`);
    return true;
  }
  console.log(`No WebGPU adapter found (${first.problem}).`);
  const apt = aptState();
  if (apt.sudo) {
    const release = readFileSync("/etc/os-release", "utf8");
    const field = (name) => new RegExp(`^${name}="?([^"\\n]*)`, "m").exec(release)?.[1] ?? "";
    const old = field("ID") === "debian" && Number(field("VERSION_ID") || Infinity) <= 12;
    console.log(
      "Installing Mesa's software Vulkan driver, about 55 MB to download (SHADEGRAD_NO_INSTALL=1 forbids it) …",
    );
    const suite = old ? addBackports(apt.sudo, field("VERSION_CODENAME")) : undefined;
    if (aptInstall(apt.sudo, ["mesa-vulkan-drivers"], suite)) {
      const second = probeAdapter();
      if (second.description) {
        console.error(`WebGPU adapter: ${second.description}`);
        return true;
      }
      console.log(`The driver is installed, but there is still no adapter (${second.problem}).`);
    } else console.log("apt-get could not install it: see its message above.");
  } else console.log(`Not installing a software driver: ${apt.problem}.`);
  console.log(routes());
  return false;
}

if (process.argv[1] && import.meta.url === pathToFileURL(resolve(process.argv[1])).href) {
  ensurePackages();
  if (!ensureAdapter()) process.exitCode = 1;
}
