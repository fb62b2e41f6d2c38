import type { Call } from "./call.ts";

export const shape: Record<string, Call> = {};
