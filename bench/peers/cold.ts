import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { median } from "../clock.ts";
import { type PeersFile, readResults, writePeers } from "../results.ts";

/**
 * Measures first calls (tracing, compiling, running) of one workload. Each call is in a new process without a shader cache. Rounds
 * interleave the libraries. Stores the medians over all rounds.
 */
export function measureCold(workload: string, libraries: readonly string[], rounds: number, dry: boolean): void {
  type Result = NonNullable<PeersFile["cold"]>[string][string];
  const runs: Record<string, Result[]> = Object.fromEntries(libraries.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const name of libraries) {
      const result = firstCall(workload, name);
      runs[name].push(result);
      console.log(`cold ${workload}, ${name}: ${result.absent ?? `${result.cpuMs} CPU ms, ${result.wallMs} ms`}`);
    }
  }
  const results = Object.fromEntries(
    libraries.map((name): [string, Result] => {
      const failed = runs[name].find((r) => r.absent);
      const middle = (key: "cpuMs" | "wallMs") => median(runs[name].map((r) => r[key]!));
      return [name, failed ?? { cpuMs: middle("cpuMs"), wallMs: middle("wallMs") }];
    }),
  );
  const file = readdirSync("bench/results").find((f) => f.startsWith("peers-"));
  if (dry || !file) return;
  const path = `bench/results/${file}`;
  const old = readResults<PeersFile>(path)!;
  writePeers(path, { ...old, cold: { ...old.cold, [workload]: { ...old.cold?.[workload], ...results } } });
}

function firstCall(workload: string, name: string): { cpuMs?: number; wallMs?: number; absent?: string } {
  const child = spawnSync(process.execPath, [process.argv[1], "--cold-child", workload, "--peers", name], {
    encoding: "utf8",
    env: { ...process.env, MESA_SHADER_CACHE_DISABLE: "true" },
    timeout: 600_000,
  });
  const last = (text: string): string => text.trim().split("\n").at(-1) ?? "";
  return child.status === 0 ? JSON.parse(last(child.stdout)) : { absent: `failed: ${last(child.stderr)}` };
}
