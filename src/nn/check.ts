// Checks of constructor arguments.

/** @throws unless every size is a positive integer. */
export function checkSizes(layer: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(sizes)) {
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`${layer}: ${name} must be a positive integer, got ${value}`);
  }
}

/** @throws unless p is a probability below 1. */
export function checkProbability(layer: string, name: string, p: number): void {
  if (!(p >= 0 && p < 1)) throw new RangeError(`${layer}: ${name} must be in [0, 1), got ${p}`);
}
