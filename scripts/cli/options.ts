/** Checks of option values. */
export function numberOf(name: string, value?: string): number | undefined {
  if (value !== undefined && (value.trim() === "" || Number.isNaN(Number(value))))
    throw new Error(`--${name} takes a number, got "${value}"`);
  return value === undefined ? undefined : Number(value);
}

export function oneOf<T extends string>(name: string, value: string | undefined, known: readonly T[]): T | undefined {
  if (value !== undefined && !known.includes(value as T))
    throw new Error(`--${name} takes one of ${known.join(", ")}, got "${value}"`);
  return value as T | undefined;
}

/** Formats of weights. */
export const weightTypes = ["f32", "f16", "int8", "int4", "nf4"] as const;
