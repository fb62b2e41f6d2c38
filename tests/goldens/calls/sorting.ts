import type { Call } from "./call.ts";

export const sorting: Record<string, Call> = {};
