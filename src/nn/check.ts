// Checks of constructor arguments.

/** @throws unless every size is a positive integer. */
export function checkSizes(layer: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(sizes)) {
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`${layer}: ${name} must be a positive integer, got ${value}`);
  }
}

/** @throws if `options` has a name that is not known: a misspelt option would change nothing without a word. */
export function checkOptions(layer: string, options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new TypeError(`${layer}: unknown option ${unknown}: expected ${known.length ? known.join(", ") : "none"}`);
}

/** @throws unless p is a probability below 1. */
export function checkProbability(layer: string, name: string, p: number): void {
  if (!(p >= 0 && p < 1)) throw new RangeError(`${layer}: ${name} must be in [0, 1), got ${p}`);
}
