/** Samples ("op number variant") known to be wrong, until issue 12 mends them. */
export const faults: Readonly<Record<string, string>> = {
  "neg 0 u32": "unsigned numbers have no negation in WGSL",
  "prod 2 second derivative": "rows with zeros",
  "sign 0 u32": "unsigned numbers have no sign in WGSL",
  "sub 0 u32": "differences below 0 wrap around on the device, not in the interpreter",
};
