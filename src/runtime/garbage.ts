/**
 * Collects dropped tensors where the runtime can be asked to (Node, or any with `gc` exposed), and lets their
 * finalizers run: they need a task of their own.
 */
export async function collectGarbage(): Promise<void> {
  const scope = globalThis as { gc?: () => void; process?: { versions?: { node?: string } } };
  if (scope.gc) scope.gc();
  else if (scope.process?.versions?.node) (await import("./node.ts")).collectGarbage();
  await new Promise((resolve) => setTimeout(resolve));
}
