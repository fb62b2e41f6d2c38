import type { Shape } from "./shape.ts";

// Attributes that an op and its lowering share.

export interface AttentionAttrs extends Record<string, unknown> {
  scale: number;
  /** Which keys a query sees: all; up to its own index; or, aligned at the ends, up to its index + S - T. */
  causal: "none" | "top-left" | "bottom-right";
  /** A causal query sees at most this many keys, the last ones. Absent = all. */
  window?: number;
  hasMask: boolean;
  hasBias: boolean;
  /** Mask and bias together are one source, f32 values one after the other, of these shapes (4 dims). */
  joint?: readonly [Shape, Shape];
  hasLengths: boolean;
  /** Results are laid out as [B, T, H, D], as q is, so that joining the heads copies nothing. */
  tokensFirst?: boolean;
}
