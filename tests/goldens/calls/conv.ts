import type { Call } from "./call.ts";

export const conv: Record<string, Call> = {};
