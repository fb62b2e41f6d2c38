// Finds a WebGPU adapter. If there is none, installs Mesa's software Vulkan driver, where that is possible.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { addBackports, aptAccess, aptCandidate, aptInstall, release, thisMachine } from "./apt.mjs";
import { childEnvironment, listFiles, root } from "./environment.mjs";

const DRIVER = "mesa-vulkan-drivers";
/** Dawn finds no adapter with Mesa 22.3, the version of Debian 12. */
const OLDEST_MESA = 23;
const NEWER =
  "use a system that is known to work (Debian 12 or later, Ubuntu 22.04 or later), or one of the ways below";

/** Asks Dawn for an adapter, in a child process because a failing driver can abort its process. */
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
  return { problem: child.status === 3 ? "no Vulkan, Metal or D3D12 driver gave one" : crash(child) };
}

/** Why the probe failed, in one line. */
function crash({ stderr, signal, status, error }) {
  const thrown = /^(?:\w*Error.*|.*error while loading.*)$/m.exec(stderr ?? "")?.[0];
  return thrown ?? error?.message ?? (signal ? `the driver ended the process with ${signal}` : `exit code ${status}`);
}

/** Whether there is an adapter, after installing a driver if needed. If not, prints why and what to do. `found`: a probe's result. */
export function ensureAdapter(machine = thisMachine, probe = probeAdapter, found = probe()) {
  if (found.description) return report(found.description);
  const { problem, remedy } = installDriver(machine) ?? {};
  if (!problem) {
    const second = probe();
    if (second.description) return report(second.description);
    return explain(second.problem, {
      problem: `Mesa ${mesaVersion(machine)} is installed, and there is still no adapter`,
      remedy: NEWER,
    });
  }
  return explain(found.problem, { problem, remedy });
}

function report(description) {
  console.error(`WebGPU adapter: ${description}`);
  return true;
}

/** Prints the one message of a set-up that ends without an adapter. */
function explain(reason, { problem, remedy }) {
  console.error(`\nNo WebGPU adapter: ${reason}.\nWhy: ${problem}\nWhat to do: ${remedy}\n\n${routes()}`);
  return false;
}

/** Installs the driver. Returns undefined, or `{ problem, remedy }`. */
function installDriver(machine) {
  const access = aptAccess(machine);
  if (!access.sudo) return access;
  const { id, codename, version, name } = release(machine);
  let suite;
  let undo = () => {};
  if (id === "debian" && version === "12") {
    const backports = addBackports(machine, access.sudo, codename || "bookworm");
    if (backports.problem) return backports;
    ({ suite, undo } = backports);
  }
  const check = () => {
    const candidate = aptCandidate(machine, DRIVER, suite);
    if (candidate === undefined || Number.parseInt(candidate.replace(/^\d+:/, ""), 10) >= OLDEST_MESA) return undefined;
    return {
      problem: `${name || "this system"} offers Mesa ${candidate}, which is too old for WebGPU`,
      remedy: NEWER,
    };
  };
  const failure = aptInstall(machine, access.sudo, [DRIVER], { suite, check });
  if (failure) undo();
  return failure;
}

const mesaVersion = (machine) => machine.ask(["dpkg-query", "-W", DRIVER]).stdout.trim().split("\t")[1] ?? "";

/** The ways to get an adapter, read from the library's source, because this script runs before the library is built. */
export function routes() {
  for (const file of listFiles("src", /\.ts$/)) {
    const list = /ADAPTER_ROUTES = `([^`]*)`/.exec(readFileSync(join(root, file), "utf8"))?.[1];
    if (list) return list.replace(/^.*\n/, "Ways to get an adapter:\n");
  }
  throw new Error("src/ has no ADAPTER_ROUTES any more: scripts/adapter.mjs shows it");
}
