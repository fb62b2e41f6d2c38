import { debugLevel } from "./debug.ts";
import type { DType, HostArray } from "./dtype.ts";
import type { Op } from "./op.ts";
import type { Shape } from "./shape.ts";

/** Plain data that specialises an op. It is part of the graph's key: a value that changes each step would compile each step. */
export type Attrs = Record<string, unknown>;

/** Shape and dtype of a value. */
export interface OutputSpec {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** A part of a buffer. Offset and size in bytes. */
export interface Region {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
}

/** Location of a value on the GPU. */
export interface Storage extends Region {
  /** The memory pool, and so the device, that the buffer belongs to. */
  readonly pool: object;
  /** The buffer holds other values too (packed parameters). */
  readonly shared?: boolean;
}

let count = 0;

let ownFolder: string | undefined;

/**
 * The folder of the library's own files: src/ in a checkout, dist/ in the package. The stack tells where this file comes
 * from even if it runs from a bundle with a source map, as import.meta.url does not. Read on the first call: with source
 * maps, the first stack costs tens of milliseconds.
 */
function libraryFolder(): string {
  if (ownFolder === undefined) {
    const file = /^ *at (?:.*\()?(.+?):\d+:\d+\)?$/m.exec(new Error().stack ?? "")?.[1] ?? import.meta.url;
    ownFolder = file.replace(/^file:\/\//, "").replace(/(graph[\\/])?[^\\/]*$/, "");
  }
  return ownFolder;
}

/** The first stack line outside the library's own folder: the user's line. */
export function callSite(): string | undefined {
  const lines = new Error().stack?.split("\n").slice(2) ?? [];
  const folder = libraryFolder();
  return lines.find((line) => !line.includes(folder) && !/\bnode:/.test(line))?.trim();
}

/** Attributes as text. Faster than JSON for numbers, which most attributes are. */
function attrsKey(attrs: Attrs): string {
  let key = "";
  for (const name in attrs) {
    const value = attrs[name];
    const plain = typeof value === "number" || typeof value === "boolean";
    key += `;${name}:${plain ? value : JSON.stringify(value)}`;
  }
  return key;
}

function shapeKey(shape: Shape): string {
  let key = "";
  for (const n of shape) key += `,${n}`;
  return key;
}

/**
 * One value of the lazy graph: an op applied to sources. Building a node runs nothing.
 * A node is *pending* until a flush gives it a `storage` (GPU) or `host` (CPU) value.
 */
export class Node implements OutputSpec {
  readonly id = count++;
  /** Op, attributes, dtype and shape as text. Nodes with equal keys and equal sources have equal values. */
  readonly key: string;
  /** Set by a flush. A realized node is a leaf of later graphs. */
  storage?: Storage;
  /** Row-major values on the host: given by the user, or read back. */
  host?: HostArray | Float64Array;
  /** The values that are being read back, which are then in `host` too. */
  reading?: Promise<HostArray>;
  /** The sources were dropped: the node can no longer be recomputed. */
  forgetful = false;
  /** Why this value can no longer be read (it was overwritten in place). */
  stale?: string;
  requiresGrad = false;
  /** Scratch fields of `collect`: the last traversal that reached the node, and its position there. */
  traversal = 0;
  position = 0;
  /** The user's line that built the node. Only kept when SHADEGRAD_DEBUG is on. */
  site?: string;

  constructor(
    readonly op: Op,
    public src: readonly Node[],
    readonly attrs: Attrs,
    readonly shape: Shape,
    readonly dtype: DType,
    /** Specs of all outputs of an op with several outputs; `pick` nodes select one. */
    readonly outputs?: readonly OutputSpec[],
  ) {
    if (debugLevel > 0) this.site = callSite();
    this.key = `${op.name}${op.keyOf ? op.keyOf(attrs) : attrsKey(attrs)}${dtype}[${shapeKey(shape)}]`;
  }

  get realized(): boolean {
    return this.storage !== undefined || this.host !== undefined;
  }

  /** Drops the sources once the value is there. A node that requires a gradient keeps them: its vjp reads them. */
  forgetSources(): void {
    if (this.requiresGrad || this.src.length === 0) return;
    this.src = [];
    this.forgetful = true;
  }
}
