import type { Shape } from "./shape.ts";

// Attributes that an op and its lowering share.

export interface AttentionAttrs extends Record<string, unknown> {
  scale: number;
  /** Keys that a query t sees. none: all. top-left: up to t. bottom-right: up to t + S - T. */
  causal: "none" | "top-left" | "bottom-right";
  /** A causal query sees at most its last `window` keys. Absent: all. */
  window?: number;
  hasMask: boolean;
  hasBias: boolean;
  /** Mask and bias are given both: one f32 source holds first the mask, then the bias, of these 4-d shapes. */
  joint?: readonly [Shape, Shape];
  hasLengths: boolean;
  /** The outputs are [B, T, H, D] in memory, as q is, so that joining the heads copies nothing. */
  tokensFirst?: boolean;
}
