/** Kernels by name: those of this folder, and those that a user's ops add. */
export interface KernelRegistry {
  /**
   * Adds a kernel from outside this folder. A lowering then calls it by `name`, which must be new. `place` is the user's line
   * that defined it, for errors.
   */
  addKernel(name: string, source: string, place?: string): void;
  /** The WGSL of a kernel. Throws for an unknown name. */
  kernelSource(name: string): string;
  /** Where a kernel from outside this folder was defined. */
  kernelPlace(name: string): string | undefined;
  /** All names, in the order in which the kernels were added. */
  kernelNames(): string[];
}

export function kernelRegistry(builtIn: Readonly<Record<string, string>>): KernelRegistry {
  const sources = new Map(Object.entries(builtIn));
  const places = new Map<string, string>();
  return {
    addKernel(name, source, place) {
      if (sources.has(name)) throw new Error(`addKernel: there is a kernel ${name} already; choose another name`);
      sources.set(name, source);
      if (place) places.set(name, place);
    },
    kernelSource(name) {
      const source = sources.get(name);
      if (source === undefined)
        throw new Error(`there is no kernel ${name}; kernels: ${[...sources.keys()].join(", ")}`);
      return source;
    },
    kernelPlace: (name) => places.get(name),
    kernelNames: () => [...sources.keys()],
  };
}
