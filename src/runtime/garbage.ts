type NodeModules = {
  v8: { setFlagsFromString(flags: string): void };
  vm: { runInNewContext(code: string): () => void };
};
type Process = { getBuiltinModule?<K extends keyof NodeModules>(name: K): NodeModules[K] };

let collect: (() => void) | undefined;

/** Node can switch its collector on at run time; browsers and Deno offer `gc` only behind a flag. */
function collector(): () => void {
  const found = (globalThis as { gc?: () => void }).gc;
  if (found) return found;
  const process = (globalThis as { process?: Process }).process;
  const [v8, vm] = [process?.getBuiltinModule?.("v8"), process?.getBuiltinModule?.("vm")];
  if (!v8 || !vm) return () => {};
  v8.setFlagsFromString("--expose-gc");
  return vm.runInNewContext("gc");
}

/** Collects dropped tensors where the runtime allows it, and lets their finalizers run: they need a task of their own. */
export async function collectGarbage(): Promise<void> {
  (collect ??= collector())();
  await new Promise((resolve) => setTimeout(resolve));
}
