import type { Family } from "./sample.ts";

export const shape: Family = {};
