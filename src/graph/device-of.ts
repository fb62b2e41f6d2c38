import type { Node } from "./node.ts";
import { show } from "./shape.ts";

/** The pool of the open device: the owner of every storage that can be used. */
let open: object | undefined;

/** Called when a device opens, or closes. */
export const setOpenDevice = (pool: object | undefined): void => void (open = pool);

/** Drops storage of an earlier device from nodes that have their values on the host. @throws if one has no other copy. */
export function checkDevice(what: string, nodes: readonly Node[]): void {
  for (const n of nodes) {
    if (!n.storage || n.storage.pool === open) continue;
    if (!n.host)
      throw new Error(
        `${what}: a tensor of shape ${show(n.shape)} lies on the device before init(): values there are lost; create or load it again after init()`,
      );
    n.storage = undefined;
  }
}
