import type { Family } from "./sample.ts";

export const reduce: Family = {};
