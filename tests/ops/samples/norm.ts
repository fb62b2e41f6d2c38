import type { Family } from "./sample.ts";

export const norm: Family = {};
