import { byteSize } from "../graph/dtype.ts";
import type { Node } from "../graph/node.ts";
import { numel } from "../graph/shape.ts";
import type { Device } from "./device.ts";
import { toWords } from "./host-values.ts";
import { openSession } from "./session.ts";

const PROMOTE_AFTER = 2; // uses of a host value after which it gets a buffer
const MAX_UPLOADED = 1 << 26; // bytes of uploads that may wait in the GPU's queue

const hostUses = new WeakMap<Node, number>();
let uploaded = 0;

/** Uploads in flight. The flush that started them awaits them. */
const promotions: Promise<void>[] = [];

/** Resolves once the values that this flush promoted are in their buffers. */
export const promoted = async (): Promise<void> => void (await Promise.all(promotions.splice(0)));

/** Forgets promotions of a flush that failed before it awaited them. */
export const forgetPromotions = (): void => void (promotions.length = 0);

/** Counts a use of a host value. A value that is used repeatedly, or trained, gets a buffer of its own. */
export function countUse(device: Device, leaf: Node): void {
  const uses = (hostUses.get(leaf) ?? 0) + 1;
  hostUses.set(leaf, uses);
  if (leaf.requiresGrad || uses >= PROMOTE_AFTER) promote(device, leaf);
}

/** Uploads a host value to a buffer of its own. */
export function promote(device: Device, node: Node): void {
  if (node.storage || !node.host) return;
  const arriving = fill(device, node, toWords(node));
  arriving.catch(() => undefined); // the flush that awaits it reports it
  promotions.push(arriving);
}

/** Gives a node a buffer with these words. Removes it again if the GPU reports an error. */
async function fill(device: Device, node: Node, words: Uint32Array): Promise<void> {
  try {
    await device.guard(() => {
      node.storage = device.pool.own(byteSize(node.dtype, numel(node.shape)));
      if (allZero(words)) clear(device, node.storage.buffer);
      else device.gpu.queue.writeBuffer(node.storage.buffer, 0, words as Uint32Array<ArrayBuffer>);
    });
  } catch (error) {
    node.storage = undefined;
    throw error;
  }
}

// A loop: `every` calls a function per word, which costs 30 ms in a start that uploads 8 million words.
function allZero(words: Uint32Array): boolean {
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}

/** Zeros, such as an optimizer's first moments, need no upload. */
function clear(device: Device, buffer: GPUBuffer): void {
  const encoder = device.gpu.createCommandEncoder();
  encoder.clearBuffer(buffer);
  device.gpu.queue.submit([encoder.finish()]);
}

/**
 * Uploads the words of a leaf (f16: two per word). The host keeps no copy. Returns false without a GPU. Waits for the GPU after
 * every 64 MB, so that a large checkpoint does not fill the queue.
 */
export async function upload(leaf: Node, words: Uint32Array): Promise<boolean> {
  const { device } = await openSession();
  if (!device) return false;
  await fill(device, leaf, words);
  uploaded += words.byteLength;
  if (uploaded > MAX_UPLOADED) {
    uploaded = 0;
    device.gpu.queue.submit([]);
    await device.idle();
    device.check();
  }
  return true;
}
