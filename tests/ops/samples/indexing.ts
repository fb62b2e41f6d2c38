import type { Family } from "./sample.ts";

export const indexing: Family = {};
