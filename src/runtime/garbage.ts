/**
 * Runs the garbage collector, if the runtime allows it (Node, or any runtime that exposes `gc`). Then waits one task, in which
 * the finalizers of dropped tensors run and free their buffers.
 */
export async function collectGarbage(): Promise<void> {
  const scope = globalThis as { gc?: () => void; process?: { versions?: { node?: string } } };
  if (scope.gc) scope.gc();
  else if (scope.process?.versions?.node) (await import("./node.ts")).collectGarbage();
  await new Promise((resolve) => setTimeout(resolve));
}
