import { init } from "../src/runtime/engine.ts";

/** Opens the device that SHADEGRAD_BACKEND names ("webgpu" or "reference"); default: the best there is. */
export const openBackend = () => init({ backend: process.env.SHADEGRAD_BACKEND as "webgpu" | "reference" | undefined });
