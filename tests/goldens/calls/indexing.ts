import type { Call } from "./call.ts";

export const indexing: Record<string, Call> = {};
