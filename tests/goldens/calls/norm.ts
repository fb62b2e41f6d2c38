import type { Call } from "./call.ts";

export const norm: Record<string, Call> = {};
