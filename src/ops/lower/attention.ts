import type { KernelCall, Lower, LowerContext, Operand } from "../../compile/lower.ts";
import { floatBits } from "../../dtype.ts";
import type { Node } from "../../node.ts";
import { contiguousStrides, numel } from "../../shape.ts";
import type { AttentionAttrs } from "../attention.ts";
import { busyGroups, grid2d } from "./grid.ts";

const CAUSAL = { none: 0, "top-left": 1, "bottom-right": 2 };

/** A window that no row reaches the end of, small enough to add to a position. */
const UNBOUNDED = 2 ** 30;

/** What all attention kernels share: sizes, optional operands and the words of `Dims`. */
interface Geometry {
  readonly B: number;
  readonly H: number;
  readonly T: number;
  readonly S: number;
  readonly D: number;
  readonly D4: number;
  readonly group: number;
  /** Pairs of query and key that may see each other, over all heads. */
  readonly pairs: number;
  /** Most keys between the first that one of the rows sees and the last. */
  readonly reach: number;
  readonly q: Node;
  readonly k: Node;
  readonly v: Node;
  readonly modifier: Node;
  readonly lengths: Node;
  readonly hasLengths: number;
  readonly params: { readonly MODIFIER: number; readonly HALF: number };
  /** How k and v are stored: 0 f32, 1 halves, 2 int8. */
  readonly KV: number;
  readonly dims: readonly number[];
  /** Strides along batch, head and row of a result [B, heads, rows, D] in the layout that the node asks for. */
  out(heads: number, rows: number): readonly number[];
}

/** Offset and strides along batch, head and row. */
const rows = (x: Operand): number[] => [x.offset, ...x.strides.slice(0, 3)];

/** Offset and strides of a mask or bias that broadcasts to [B, H, T, S]. */
function broadcast(x: Pick<Operand, "offset" | "shape" | "strides">): number[] {
  const lead = 4 - x.shape.length;
  return [x.offset, ...[0, 1, 2, 3].map((i) => (i < lead || x.shape[i - lead] === 1 ? 0 : x.strides[i - lead]))];
}

/** Undefined when a kernel cannot read the operands in place: the op then takes its fallback. `extra` = index of the first optional source. */
function geometry(node: Node, cx: LowerContext, extra: number): Geometry | undefined {
  const { scale, causal, window, hasMask, hasBias, joint, hasLengths, tokensFirst } = node.attrs as AttentionAttrs;
  const [q, k, v] = [cx.operand(0), cx.operand(1), cx.operand(2)];
  const [B, H, T, D] = q.shape;
  const [, heads, S] = k.shape;
  const half = [q, k, v].map((x) => x.buffer.dtype === "f16");
  const paired = (x: Operand): boolean => D % 2 === 0 && rows(x).every((n) => n % 2 === 0);
  if (B * H * T * S * D === 0 || half[1] !== half[2] || (extra > 3 && half[0] !== half[1])) return undefined;
  if ([q, k, v].some((x, i) => (D > 1 && x.strides[3] !== 1) || (half[i] && !paired(x)))) return undefined;
  const modifier = hasMask || hasBias ? cx.operand(extra) : undefined;
  const lengths = hasLengths ? cx.operand(extra + (modifier ? 1 : 0)) : undefined;
  const D4 = Math.ceil(D / 4);
  const absent = [0, 0, 0, 0, 0];
  const [mask, bias] = joint
    ? joint.map((shape, i) => broadcast({ offset: i * numel(joint[0]), shape, strides: contiguousStrides(shape) }))
    : [hasMask ? broadcast(modifier!) : absent, hasBias ? broadcast(modifier!) : absent];
  return {
    B,
    H,
    T,
    S,
    D,
    D4,
    group: H / heads,
    pairs: B * H * T * Math.min(S / (causal === "none" ? 1 : 2), window ?? S),
    reach: (window ?? UNBOUNDED) + T,
    q: q.buffer,
    k: k.buffer,
    v: v.buffer,
    // Unused bindings take any buffer that is only read.
    modifier: (modifier ?? q).buffer,
    lengths: (lengths ?? q).buffer,
    hasLengths: hasLengths ? 1 : 0,
    params: { MODIFIER: (hasMask ? 1 : 0) + (hasBias ? 2 : 0), HALF: half[0] ? 1 : 0 },
    KV: k.buffer.dtype === "u32" ? 2 : half[1] ? 1 : 0,
    out: (heads, count) => (tokensFirst ? [count * heads * D, D, heads * D] : [heads * count * D, count * D, D]),
    dims: [
      H,
      H / heads,
      T,
      S,
      D,
      D4,
      floatBits(scale * Math.LOG2E),
      CAUSAL[causal],
      window ?? UNBOUNDED,
      hasLengths ? 1 : 0,
      ...rows(q),
      ...rows(k),
      ...rows(v),
      ...mask,
      ...bias,
    ],
  };
}

/**
 * Parameters of a subgroup kernel that keeps `planes` rows of D per lane and row in workgroup memory, if they fit.
 * One subgroup per workgroup: right where loads are dear and barriers dearer, but real GPUs want more lanes at work.
 */
function subgroupTile(
  cx: LowerContext,
  D4: number,
  planes: number,
): { SG: number; PER_LANE: number; SLOTS: number } | undefined {
  const { kind, subgroupSize: SG, maxWorkgroupBytes } = cx.device;
  const SLOTS = 2 * SG * bucket(D4);
  if (kind !== "software" || SG < 4 || SG > 32 || planes * SLOTS * 16 > maxWorkgroupBytes) return undefined;
  return { SG, PER_LANE: Math.max(1, 16 / SG), SLOTS };
}

/** Keys (or query rows) that a subgroup takes at once. */
const block = ({ SG, PER_LANE }: { SG: number; PER_LANE: number }): number => SG * PER_LANE;

/** Room for D4 vectors in one of few sizes, so that few pipelines are compiled. */
const bucket = (D4: number): number => Math.max(8, 2 ** Math.ceil(Math.log2(D4)));

/** Parameters of a kernel with two tiles of `count` rows of D in workgroup memory. */
function sharedTile(cx: LowerContext, D4: number): { WG: number; VECTORS: number; ROLLED: number; count: number } {
  const software = cx.device.kind === "software";
  const VECTORS = software ? bucket(D4) : D4;
  return {
    WG: software ? 16 : 64,
    VECTORS,
    ROLLED: software ? 1 : 0,
    count: Math.min(16, Math.floor(cx.device.maxWorkgroupBytes / (32 * VECTORS))),
  };
}

/** Few rows against many keys: see attention_decode.wgsl. Splits when there are fewer workgroups than the adapter can use. */
function decode(g: Geometry, cx: LowerContext): KernelCall[] | undefined {
  const software = cx.device.kind === "software";
  const LANES = software ? 8 : 64;
  const CHUNK = 256;
  const rows = g.group * g.T; // of a key head
  const ROWS = Math.min(8, 2 ** Math.ceil(Math.log2(rows)));
  const vectors = bucket(g.D4);
  const slots = { Q_SLOTS: ROWS * vectors, O_SLOTS: ROWS * Math.max(LANES, vectors) };
  if ((slots.Q_SLOTS + slots.O_SLOTS) * 16 + ROWS * (CHUNK + 4 * LANES) * 4 > cx.device.maxWorkgroupBytes)
    return undefined;
  const chunks = Math.ceil(rows / ROWS);
  const groups = g.B * (g.H / g.group) * chunks;
  const splits = Math.min(
    Math.ceil(Math.min(g.S, g.reach) / CHUNK),
    Math.max(1, Math.floor((software ? 4 : busyGroups(cx.device)) / groups)),
  );
  const count = g.B * g.H * g.T;
  const out = g.out(g.H, g.T);
  const o = splits > 1 ? cx.temp(splits * count * g.D * 4) : cx.output(0);
  const stats = splits > 1 ? cx.temp(splits * count * 8) : cx.output(1);
  const calls: KernelCall[] = [
    {
      kernel: "attention_decode",
      params: { LANES, ROWS, CHUNK, ...slots, ...g.params, KV: g.KV },
      dims: [...g.dims, ...(splits > 1 ? [g.H * g.T * g.D, g.T * g.D, g.D] : out), chunks, splits, count],
      bind: [g.q, g.k, g.v, g.modifier, g.lengths, o, stats],
      grid: [splits, (g.H / g.group) * chunks, g.B],
      flops: 4 * g.pairs * g.D,
    },
  ];
  if (splits > 1) {
    const [x, y, z] = grid2d(Math.ceil((count * g.D) / 64));
    calls.push({
      kernel: "attention_merge",
      params: { WG: 64 },
      dims: [count, g.H, g.T, g.D, splits, ...out, x],
      bind: [o, stats, cx.output(0), cx.output(1)],
      grid: [x, y, z],
    });
  }
  return calls;
}

/** Sources q, k, v (, mask or bias) (, lengths); outputs o [B, H, T, D], stats [B, H, T, 2]. */
export const lowerAttention: Lower = (node, cx) => {
  const g = geometry(node, cx, 3);
  if (!g) return undefined;
  const call = { bind: [g.q, g.k, g.v, g.modifier, g.lengths, cx.output(0), cx.output(1)], flops: 4 * g.pairs * g.D };
  const dims = [...g.dims, ...g.out(g.H, g.T)];
  const tile = subgroupTile(cx, g.D4, 2);
  if (tile) {
    const grid = [Math.ceil((g.group * g.T) / (2 * tile.SG)), g.H / g.group, g.B] as const;
    const params = { ...tile, ...g.params, KV: g.KV };
    return [{ kernel: "attention", params, dims: [...dims, block(tile)], ...call, grid }];
  }
  const few = g.T <= 8 ? decode(g, cx) : undefined;
  if (few) return few;
  const { count, ...params } = sharedTile(cx, g.D4);
  const grid = [Math.ceil(g.T / params.WG), g.H, g.B] as const;
  return [
    {
      kernel: "attention_tiled",
      params: { ...params, KEYS: count, ...g.params, KV: g.KV },
      dims: [...dims, count],
      ...call,
      grid,
    },
  ];
};

/** Sources q, k, v, o, stats, do (, mask or bias) (, lengths); outputs dq, dk, dv. */
export const lowerAttentionBackward: Lower = (node, cx) => {
  const g = geometry(node, cx, 6);
  const grad = cx.operand(5);
  if (!g || (g.D > 1 && grad.strides[3] !== 1) || node.src[5].dtype !== "f32") return undefined;
  const rowCount = g.B * g.H * g.T;
  const stats = cx.temp(rowCount * 16);
  const statsGrid = grid2d(Math.ceil(rowCount / 64));
  const rowsum: KernelCall = {
    kernel: "attention_stats",
    params: { ROWS: 64 },
    dims: [g.H, g.T, g.S, g.D, rowCount, g.hasLengths, ...rows(grad), ...g.out(g.H, g.T), statsGrid[0]],
    bind: [cx.operand(3).buffer, cx.operand(4).buffer, grad.buffer, g.lengths, stats],
    grid: statsGrid,
    flops: 2 * rowCount * g.D,
  };
  const dims = [...g.dims, ...rows(grad)];
  const sources = [g.q, g.k, g.v, g.modifier, grad.buffer, stats];
  const dq = { bind: [...sources, cx.output(0)], flops: 6 * g.pairs * g.D };
  const dkv = { bind: [...sources, cx.output(1), cx.output(2)], flops: 8 * g.pairs * g.D };
  const heads = g.H / g.group;
  const tile = subgroupTile(cx, g.D4, 2);
  if (tile) {
    const cache = (planes: number): number => (subgroupTile(cx, g.D4, planes) ? 1 : 0);
    const grid = (n: number, H: number) => [Math.ceil(n / (2 * tile.SG)), H, g.B] as const;
    return [
      rowsum,
      {
        kernel: "attention_dq",
        params: { ...tile, ...g.params, CACHE: cache(3) },
        dims: [...dims, ...g.out(g.H, g.T), block(tile)],
        ...dq,
        grid: grid(g.T, g.H),
      },
      {
        kernel: "attention_dkv",
        params: { ...tile, ...g.params, CACHE: cache(4) },
        dims: [...dims, ...g.out(heads, g.S), block(tile)],
        ...dkv,
        grid: grid(g.S, heads),
      },
    ];
  }
  const { count, ...params } = sharedTile(cx, g.D4);
  const grid = (n: number, H: number) => [Math.ceil(n / params.WG), H, g.B] as const;
  return [
    rowsum,
    {
      kernel: "attention_dq_tiled",
      params: { ...params, KEYS: count, ...g.params },
      dims: [...dims, ...g.out(g.H, g.T), count],
      ...dq,
      grid: grid(g.T, g.H),
    },
    {
      kernel: "attention_dkv_tiled",
      params: { ...params, ROWS: count, ...g.params },
      dims: [...dims, ...g.out(heads, g.S), count],
      ...dkv,
      grid: grid(g.S, heads),
    },
  ];
};
