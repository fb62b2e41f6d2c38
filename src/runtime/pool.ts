import type { Storage } from "../graph/node.ts";

const COLLECT_AFTER = 128 << 20; // bytes allocated for owned values between garbage collections
const STORAGE = 0x80 | 0x04 | 0x08; // GPUBufferUsage.STORAGE | COPY_SRC | COPY_DST
const STAGING = 0x01 | 0x08; // MAP_READ | COPY_DST

/** Sizes are rounded up to eighths of powers of two, so that a buffer can be reused for a slightly different size. */
function sizeClass(bytes: number): number {
  const step = Math.max(256, 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, bytes))) - 3));
  return Math.ceil(bytes / step) * step;
}

/** All GPU memory of the library: owned values, scratch shared by all plans, arenas and staging buffers. */
export class Pool {
  /** Bytes in buffers that are alive. */
  liveBytes = 0;
  peakBytes = 0;
  /** Bytes allocated for owned values since the last collection, and whether any of them needed a new buffer. */
  private given = 0;
  private short = false;
  private readonly free = new Map<number, GPUBuffer[]>();
  private readonly staging = new Map<number, GPUBuffer[]>();
  /** Buffers that were free at the last `trim`, and not taken since. */
  private idle = new Set<GPUBuffer>();
  private scratch: GPUBuffer[] = [];
  private readonly arenas = new Map<string, GPUBuffer>();
  private watched?: GPUBuffer[];
  private readonly live = new Set<GPUBuffer>();
  private readonly owners = new FinalizationRegistry<GPUBuffer>((buffer) => this.release(buffer));

  private readonly partOwners = new FinalizationRegistry<{ buffer: GPUBuffer; parts: number }>((owner) => {
    if (--owner.parts === 0) this.destroy(owner.buffer);
  });

  constructor(
    private readonly device: GPUDevice,
    private readonly maxBufferBytes: number,
  ) {}

  private create(bytes: number, usage: number): GPUBuffer {
    if (bytes > this.maxBufferBytes) {
      throw new RangeError(
        `a tensor of ${bytes} bytes is larger than the ${this.maxBufferBytes} bytes that a buffer of this adapter can have: split it along a dim`,
      );
    }
    const buffer = this.device.createBuffer({ size: bytes, usage });
    this.liveBytes += bytes;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    this.live.add(buffer);
    this.watched?.push(buffer);
    return buffer;
  }

  /** Starts to record new buffers. The function that it returns stops recording and returns them. */
  watch(): () => GPUBuffer[] {
    const [outer, created] = [this.watched, [] as GPUBuffer[]];
    this.watched = created;
    return () => {
      this.watched = outer;
      return created;
    };
  }

  /** Destroys buffers and removes them from all lists. */
  forget(buffers: readonly GPUBuffer[]): void {
    if (buffers.length === 0) return;
    for (const buffer of buffers) this.destroy(buffer);
    const alive = (buffer: GPUBuffer): boolean => this.live.has(buffer);
    for (const lists of [this.free, this.staging])
      for (const [size, list] of lists) lists.set(size, list.filter(alive));
    this.scratch = this.scratch.filter(alive);
    for (const [layout, buffer] of this.arenas) if (!alive(buffer)) this.arenas.delete(layout);
  }

  /**
   * A buffer for a value that outlives its plan. It is freed when the Storage object is collected, not the Node: assignment
   * moves a Storage between nodes.
   */
  own(bytes: number): Storage {
    const size = sizeClass(bytes);
    let buffer = this.free.get(size)?.pop();
    if (buffer) this.idle.delete(buffer);
    else {
      buffer = this.create(size, STORAGE);
      this.short = true;
    }
    this.given += size;
    const storage: Storage = { buffer, offset: 0, bytes, pool: this };
    this.owners.register(storage, buffer, storage);
    return storage;
  }

  /** Parts of one new buffer. It is destroyed once the Storage objects of all parts are collected. */
  ownParts(bytes: number, parts: readonly { readonly offset: number; readonly bytes: number }[]): Storage[] {
    const buffer = this.create(Math.ceil(bytes / 16) * 16, STORAGE);
    const owner = { buffer, parts: parts.length };
    return parts.map((part) => {
      const storage: Storage = { buffer, ...part, pool: this, shared: true };
      this.partOwners.register(storage, owner);
      return storage;
    });
  }

  /** Destroys the free buffers that nothing has taken since the last call: those of models that were dropped, say. */
  trim(): void {
    for (const [size, list] of this.free) {
      const [old, kept] = [list.filter((b) => this.idle.has(b)), list.filter((b) => !this.idle.has(b))];
      for (const buffer of old) this.destroy(buffer);
      this.free.set(size, kept);
    }
    this.idle = new Set([...this.free.values()].flat());
  }

  /** Whether dropped tensors probably hold enough memory for a garbage collection. If so, the count restarts. */
  wantsCollection(): boolean {
    if (!this.short || this.given < COLLECT_AFTER) return false;
    this.given = 0;
    this.short = false;
    return true;
  }

  /** Frees the buffer of an owned value before it is collected. */
  disown(storage: Storage): void {
    this.owners.unregister(storage);
    this.release(storage.buffer);
  }

  private release(buffer: GPUBuffer): void {
    if (!this.live.has(buffer)) return;
    const list = this.free.get(buffer.size);
    if (list) list.push(buffer);
    else this.free.set(buffer.size, [buffer]);
  }

  /** A buffer that lives until it is destroyed (uniforms of a plan). */
  permanent(bytes: number, usage = STORAGE): GPUBuffer {
    return this.create(Math.ceil(bytes / 16) * 16, usage);
  }

  /** Destroys a permanent buffer. Submitted work may still use it. */
  destroy(buffer: GPUBuffer): void {
    if (!this.live.delete(buffer)) return;
    this.liveBytes -= buffer.size;
    buffer.destroy();
  }

  /** Destroys everything. The pool is of no use afterwards. */
  destroyAll(): void {
    for (const buffer of [...this.live]) this.destroy(buffer);
  }

  /** Number of buffers that are alive. */
  get liveBuffers(): number {
    return this.live.size;
  }

  /** Distinct buffers for the temporaries of one plan. Plans run one after another, so all plans share them. */
  scratchFor(sizes: readonly number[]): GPUBuffer[] {
    const taken = new Set<GPUBuffer>();
    const out = new Array<GPUBuffer>(sizes.length);
    const bySize = sizes.map((bytes, i) => ({ bytes: sizeClass(bytes), i })).sort((a, b) => b.bytes - a.bytes);
    for (const { bytes, i } of bySize) {
      let best: GPUBuffer | undefined;
      for (const b of this.scratch) {
        if (!taken.has(b) && b.size >= bytes && b.size <= 2 * bytes && (!best || b.size < best.size)) best = b;
      }
      if (!best) this.scratch.push((best = this.create(bytes, STORAGE)));
      taken.add(best);
      out[i] = best;
    }
    return out;
  }

  /** One buffer per layout of packed values. The gaps between values stay zero. */
  arena(layout: string, bytes: number): GPUBuffer {
    let buffer = this.arenas.get(layout);
    if (!buffer) this.arenas.set(layout, (buffer = this.create(bytes, STORAGE)));
    return buffer;
  }

  stagingFor(bytes: number): GPUBuffer {
    const size = sizeClass(bytes);
    return this.staging.get(size)?.pop() ?? this.create(size, STAGING);
  }

  returnStaging(buffer: GPUBuffer): void {
    const list = this.staging.get(buffer.size);
    if (list) list.push(buffer);
    else this.staging.set(buffer.size, [buffer]);
  }
}
