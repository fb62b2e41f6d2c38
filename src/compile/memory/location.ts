/** Location of a value while a plan runs. Offsets and sizes in bytes. */
export type Location = {
  readonly offset: number;
  readonly bytes: number;
} & (
  | { readonly in: "leaf"; readonly leaf: number }
  | { readonly in: "temp"; readonly slot: number }
  | { readonly in: "output"; readonly root: number }
  | { readonly in: "fixed"; readonly buffer: GPUBuffer }
  /** Packed values: one buffer per layout, for all plans. */
  | { readonly in: "arena"; readonly layout: string; readonly size: number }
);

/** What happens to a root after the last dispatch. `from` is absent if the value was computed in its final buffer. */
export type Finish =
  | { readonly mode: "read"; readonly root: number; readonly from: Location }
  | { readonly mode: "keep"; readonly root: number; readonly from?: Location }
  | { readonly mode: "assign"; readonly root: number; readonly leaf: number; readonly from?: Location };

/** How a leaf that comes from the host gets to the GPU: into a temporary (large), or to an offset of the upload buffer. */
export type Upload = { readonly slot: number } | { readonly at: number };
