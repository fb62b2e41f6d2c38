/** SHADEGRAD_DEBUG: 1 plans and compiles, 2 one line per kernel, 3 fused graphs, 4 WGSL. */
export const debugLevel = readLevel();

function readLevel(): number {
  try {
    const scope = globalThis as { process?: { env?: Record<string, string> } };
    return Number(scope.process?.env?.SHADEGRAD_DEBUG ?? 0);
  } catch {
    return 0; // Deno without --allow-env throws
  }
}

/** Prints `text` if SHADEGRAD_DEBUG is at least `level`. */
export function log(level: number, text: string): void {
  if (debugLevel >= level) console.error(`[shadegrad] ${text}`);
}
