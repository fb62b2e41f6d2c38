import type { Family } from "./sample.ts";

export const conv: Family = {};
