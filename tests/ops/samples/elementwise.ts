import type { Family } from "./sample.ts";

export const elementwise: Family = {};
