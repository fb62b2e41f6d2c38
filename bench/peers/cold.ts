import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { type PeersFile, readResults, writePeers } from "../results.ts";

/** First calls (tracing, compiling, running) of one workload: each library in a process of its own, without shader cache. */
export function measureCold(workload: string, libraries: readonly string[], dry: boolean): void {
  const results: NonNullable<PeersFile["cold"]>[string] = {};
  for (const name of libraries) {
    const child = spawnSync(process.execPath, [process.argv[1], "--cold-child", workload, "--peers", name], {
      encoding: "utf8",
      env: { ...process.env, MESA_SHADER_CACHE_DISABLE: "true" },
      timeout: 600_000,
    });
    const line = child.stdout.trim().split("\n").at(-1) ?? "";
    results[name] =
      child.status === 0 ? JSON.parse(line) : { absent: `failed: ${child.stderr.trim().split("\n").at(-1)}` };
    const { cpuMs, wallMs, absent } = results[name];
    console.log(`cold ${workload}, ${name}: ${absent ?? `${cpuMs} CPU ms, ${wallMs} ms`}`);
  }
  const file = readdirSync("bench/results").find((f) => f.startsWith("peers-"));
  if (dry || !file) return;
  const path = `bench/results/${file}`;
  const old = readResults<PeersFile>(path)!;
  writePeers(path, { ...old, cold: { ...old.cold, [workload]: { ...old.cold?.[workload], ...results } } });
}
