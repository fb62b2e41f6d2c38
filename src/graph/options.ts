/** @throws if `options` has a key that is not in `known`: a misspelt option must not be ignored. */
export function checkOptions(op: string, options: object, known: readonly string[]): void {
  if (typeof options !== "object" || options === null)
    throw new TypeError(`${op}: options must be an object { ${known.join(", ")} }, got ${options}`);
  for (const key of Object.keys(options))
    if (!known.includes(key)) throw new TypeError(`${op}: unknown option ${key}; options: ${known.join(", ")}`);
}
