import type { Family } from "./sample.ts";

export const scan: Family = {};
