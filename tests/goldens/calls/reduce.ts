import type { Call } from "./call.ts";

export const reduce: Record<string, Call> = {};
