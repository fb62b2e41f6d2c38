// Installs Debian packages. If it cannot, it says why, and removes sources that it added.
// A `machine` runs commands and has files. Tests pass a simulated one.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { aptSources, formatDeb822 } from "./apt-sources.mjs";
import { childEnvironment } from "./environment.mjs";

/** This computer. */
export const thisMachine = {
  platform: process.platform,
  arch: process.arch,
  uid: process.getuid?.(),
  terminal: process.stdin.isTTY === true,
  env: process.env,
  etc: "/etc",
  /** Runs a command and captures its output: { status, stdout, stderr }. Status is undefined if there is no such command. */
  ask(command, input) {
    const { status, stdout, stderr, error } = spawnSync(command[0], command.slice(1), { input, encoding: "utf8" });
    return { status: error ? undefined : status, stdout: String(stdout ?? ""), stderr: String(stderr ?? error) };
  },
  /** Runs a command and shows its output. Returns { status, stderr }. */
  show(command) {
    const stdio = ["inherit", "inherit", "pipe"];
    const { status, stderr } = spawnSync(command[0], command.slice(1), {
      stdio,
      env: childEnvironment(),
      encoding: "utf8",
    });
    if (stderr) process.stderr.write(stderr);
    return { status, stderr: String(stderr ?? "") };
  },
};

/** { id, codename, version, name } of /etc/os-release. Missing fields are empty strings. */
export function release(machine) {
  const path = join(machine.etc, "os-release");
  const text = existsSync(path) ? readFileSync(path, "utf8") : "";
  const field = (name) => new RegExp(`^${name}=["']?([^"'\\r\\n]*)`, "m").exec(text)?.[1] ?? "";
  return {
    id: field("ID"),
    codename: field("VERSION_CODENAME"),
    version: field("VERSION_ID"),
    name: field("PRETTY_NAME"),
  };
}

/** How commands get root's rights: `{ sudo }`, an empty list for root itself. Or why nothing can be installed: `{ problem, remedy }`. */
export function aptAccess(machine = thisMachine) {
  if (machine.env.SHADEGRAD_NO_INSTALL)
    return { problem: "SHADEGRAD_NO_INSTALL is set", remedy: "unset it, or install by hand as listed below" };
  if (machine.platform === "darwin")
    return {
      problem: "on macOS there is nothing to install: WebGPU runs on Metal, which comes with the system",
      remedy: "run on a Mac with a GPU that macOS sees; most virtual machines have none",
    };
  if (machine.platform === "win32")
    return {
      problem:
        "on Windows there is nothing to install: WebGPU runs on Direct3D 12, which comes with the graphics driver",
      remedy: "update the graphics driver (Windows 10 or later), or run in WSL 2 with Debian or Ubuntu",
    };
  if (machine.platform !== "linux" || machine.ask(["apt-get", "--version"]).status !== 0)
    return {
      problem: `${release(machine).name || machine.platform} has no apt-get`,
      remedy:
        "install Mesa's software Vulkan driver (25 or later) with the system's package manager: " +
        "Fedora mesa-vulkan-drivers, Arch vulkan-swrast; Alpine cannot load Dawn, which needs glibc",
    };
  if (machine.uid === 0) return { sudo: [] };
  if (machine.ask(["sudo", "-n", "true"]).status === 0) return { sudo: ["sudo", "-n"] };
  if (machine.terminal && machine.ask(["sudo", "--version"]).status === 0) return { sudo: ["sudo"] }; // asks for the password
  return {
    problem: "this user is not root and has no sudo without a password",
    remedy: "let an administrator run `npm run setup` once, or the apt-get line below",
  };
}

/** Runs apt-get as root, and shows only errors. Waits up to 120 s for a running upgrade, and 30 s for a mirror. */
function aptGet(machine, sudo, ...args) {
  const settings = ["-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=30", "-o", "Dpkg::Use-Pty=0"];
  console.log(`$ ${[...sudo, "apt-get", ...args].join(" ")}`);
  // sudo drops environment variables, so `env` sets them.
  return machine.show([...sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", ...settings, ...args]);
}

/** The first two error lines of apt in one. A source that does not answer is only a warning to apt. */
const aptErrors = (stderr) =>
  [...new Set([...stderr.matchAll(/^(?:E: *|W: (?=Failed to fetch))(.*)$/gm)].map((m) => m[1].trim()))]
    .slice(0, 2)
    .join("; ") || "it gave no reason";

/** What to do about a failure of apt, by its error lines. */
function aptRemedy(errors) {
  if (/Malformed|list of sources could not be read|Type '.*' is not known|Conflicting values/i.test(errors))
    return "fix the source file that apt names; `apt-get update` must succeed";
  if (/resolv|connect|timed out|Network is unreachable|Failed to fetch/i.test(errors))
    return "connect this machine to the network, or set apt's proxy (Acquire::http::Proxy), and run this again";
  if (/Read-only file system/i.test(errors)) return "run where / can be written, or build the driver into the image";
  if (/No space left/i.test(errors)) return "free disk space and run this again";
  if (/lock/i.test(errors)) return "wait until the other package manager has ended, and run this again";
  if (/Unable to locate package|no installation candidate/i.test(errors))
    return "enable the system's main (Ubuntu: also universe) package sources; `apt-get update` must succeed";
  return "make `apt-get update` and `apt-get install` succeed, and run this again";
}

/**
 * Updates, then installs packages. `check` runs between the two and may refuse. Returns undefined, or `{ problem, remedy }`.
 * A failed update is no error yet: one source may be broken, and the packages come from another.
 */
export function aptInstall(machine, sudo, packages, { suite, check = () => undefined } = {}) {
  const updated = aptGet(machine, sudo, "update");
  if (suite && updated.stderr.includes(`${suite} Release' does not have a Release file`))
    return {
      problem: `the package mirror has no suite ${suite}`,
      remedy: `add a mirror that has it: echo "deb http://deb.debian.org/debian ${suite} main" > /etc/apt/sources.list.d/${suite}.list`,
    };
  const refusal = check();
  if (refusal) return refusal;
  const options = ["-y", "--no-install-recommends", ...(suite ? ["-t", suite] : [])];
  const installed = aptGet(machine, sudo, "install", ...options, ...packages);
  if (installed.status === 0) return undefined;
  const errors = aptErrors(`${updated.stderr}\n${installed.stderr}`);
  const step = /^(E|W: Failed)/m.test(updated.stderr) ? "update" : "install";
  return { problem: `apt-get ${step} failed: ${errors}`, remedy: aptRemedy(errors) };
}

/** The version that apt would install, or undefined. */
export function aptCandidate(machine, name, suite) {
  const { stdout } = machine.ask(["apt-cache", "policy", ...(suite ? ["-t", suite] : []), name]);
  const version = /^ *Candidate: (\S+)/m.exec(stdout)?.[1];
  return version === "(none)" ? undefined : version;
}

/**
 * Adds the suite `<codename>-backports`, from the mirror that already has <codename>.
 * Returns `{ suite, undo }`, or `{ problem, remedy }`.
 */
export function addBackports(machine, sudo, codename) {
  const suite = `${codename}-backports`;
  const sources = aptSources(machine.etc).filter((source) => source.components.includes("main"));
  if (sources.some((source) => source.suite === suite)) return { suite, undo() {} };
  const mirror = releaseMirror(sources, codename) ?? debianMirror(machine);
  const path = join(machine.etc, `apt/sources.list.d/shadegrad-${suite}.sources`);
  const text = formatDeb822({ ...mirror, suite, components: ["main"] });
  console.log(`Adding the suite ${suite} of ${mirror.uri} in ${path}`);
  const problem = writeAsRoot(machine, sudo, path, text);
  if (problem)
    return {
      problem: `cannot write ${path}: ${problem}`,
      remedy: `make it writable, or add the suite by hand:\n${text.trimEnd().replace(/^/gm, "    ")}`,
    };
  const undo = () => (sudo.length === 0 ? rmSync(path, { force: true }) : machine.ask([...sudo, "rm", "-f", path]));
  return { suite, undo };
}

/** The mirror of Debian among the sources. Other vendors also name suites after the release, so the codename alone is not enough. */
function releaseMirror(sources, codename) {
  const named = sources.filter(({ suite, uri }) => suite === codename && !uri.startsWith("cdrom:"));
  const complete = ({ uri }) => sources.some((other) => other.uri === uri && other.suite === `${codename}-updates`);
  const debian = ({ uri }) => /\/debian\/?$|^mirror\+|snapshot\.debian\.org/.test(uri);
  return named.find(complete) ?? named.find(debian) ?? (named.length === 1 ? named[0] : undefined);
}

/** Debian's own archive, for a machine whose sources name no mirror of the release. */
function debianMirror(machine) {
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  const present = existsSync(join(machine.etc, "..", keyring));
  return { uri: "http://deb.debian.org/debian", options: present ? { "signed-by": keyring } : {} };
}

/** Writes a file as root. Returns why that failed, or undefined. */
function writeAsRoot(machine, sudo, path, text) {
  if (sudo.length > 0) {
    const { status, stderr } = machine.ask([...sudo, "tee", path], text);
    return status === 0 ? undefined : stderr.trim() || "sudo tee failed";
  }
  try {
    writeFileSync(path, text);
  } catch (error) {
    return error.message;
  }
}
