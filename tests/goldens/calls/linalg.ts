import type { Call } from "./call.ts";

export const linalg: Record<string, Call> = {};
