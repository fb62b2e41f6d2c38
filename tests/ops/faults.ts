/** Samples ("op number variant") known to be wrong, until issue 12 mends them. */
export const faults: Readonly<Record<string, string>> = {
  "prod 2 second derivative": "rows with zeros",
};
