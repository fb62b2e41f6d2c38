import type { Call } from "./call.ts";

export const scan: Record<string, Call> = {};
