/** Samples ("op number variant") known to be wrong, until an issue mends them. */
export const faults: Readonly<Record<string, string>> = {};
