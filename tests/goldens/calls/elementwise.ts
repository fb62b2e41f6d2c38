import type { Call } from "./call.ts";

export const elementwise: Record<string, Call> = {};
