import type { Family } from "./sample.ts";

export const linalg: Family = {};
