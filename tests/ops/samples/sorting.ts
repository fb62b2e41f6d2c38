import type { Family } from "./sample.ts";

export const sorting: Family = {};
