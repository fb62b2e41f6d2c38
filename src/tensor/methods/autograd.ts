import { type GradientHook, isLeafNode, registerHook } from "../autograd.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /**
     * Calls `hook` with this tensor's gradient when it is complete. A tensor that the hook returns replaces the gradient.
     * @returns a handle whose `remove` takes the hook away
     * @throws if this does not require grad
     * @example x.registerHook((g) => g.clamp({ min: -1, max: 1 }))
     */
    registerHook(hook: GradientHook): { remove(): void };
    /** Whether this was made by a user rather than by an op that records gradients. `backward` fills `.grad` of leaves. */
    readonly isLeaf: boolean;
  }
}

addMethods({
  registerHook(hook: GradientHook) {
    return registerHook(this, hook);
  },
  get isLeaf() {
    return !this.requiresGrad || isLeafNode(this.node);
  },
});
