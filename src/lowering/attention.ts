import type { AttentionAttrs } from "../graph/attributes.ts";
import { floatBits } from "../graph/dtype.ts";
import type { KernelCall, Lower, LowerContext, Operand } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { contiguousStrides, numel } from "../graph/shape.ts";
import { busyGroups, grid2d } from "./grid.ts";

const CAUSAL = { none: 0, "top-left": 1, "bottom-right": 2 };

/** A window longer than any sequence, small enough that adding a position does not overflow. */
const UNBOUNDED = 2 ** 30;

/** Sizes, optional operands and words of `Dims`, which all attention kernels share. */
interface Geometry {
  readonly B: number;
  readonly H: number;
  readonly T: number;
  readonly S: number;
  readonly D: number;
  readonly D4: number;
  /** Query heads per key head. */
  readonly group: number;
  /** Visible pairs of query and key, over all heads; estimated for a causal mask. */
  readonly pairs: number;
  /** Bound on the keys from the first that any row sees to the last. */
  readonly reach: number;
  readonly q: Node;
  readonly k: Node;
  readonly v: Node;
  readonly modifier: Node;
  readonly lengths: Node;
  readonly hasLengths: number;
  readonly params: { readonly MODIFIER: number; readonly HALF: number };
  /** The weight of a score is 2^((score - top) * unit). */
  readonly unit: number;
  /** How k and v are stored: 0 f32, 1 halves, 2 int8. */
  readonly KV: number;
  readonly dims: readonly number[];
  /** Params of the subgroup kernels that make some of `dims` unnecessary. */
  readonly traits: { readonly GROUPED: number; readonly LENGTHS: number; readonly WINDOWED: number };
  /** Query row t sees the keys before t + ahead. Lengths may shorten this. */
  readonly ahead: number;
  /** Param LAYOUT: 1 (heads first) or 2 (tokens first) if q, k, v and `more` are laid out as the results; 0: use strides. */
  layout(...more: readonly Operand[]): number;
  /** Strides along batch, head and row of a result [B, heads, rows, D] in the layout of the node. */
  out(heads: number, rows: number): readonly number[];
}

/** Offset, then the strides along batch, head and row. */
const rows = (x: Operand): number[] => [x.offset, ...x.strides.slice(0, 3)];

/** Offset, then the strides of a mask or bias that broadcasts to [B, H, T, S]. */
function broadcast(x: Pick<Operand, "offset" | "shape" | "strides">): number[] {
  const lead = 4 - x.shape.length;
  return [x.offset, ...[0, 1, 2, 3].map((i) => (i < lead || x.shape[i - lead] === 1 ? 0 : x.strides[i - lead]))];
}

/** Whether rows can be read by vec4f. */
const hasVectorRows = (x: Operand): boolean =>
  x.buffer.dtype === "f32" && [x.shape[3], ...rows(x)].every((n) => n % 4 === 0);

/**
 * The geometry of an attention node, or undefined where the kernels cannot read the operands in place: the op then runs as its
 * fallback. `extra` is the index of the first optional source.
 */
function geometry(node: Node, cx: LowerContext, extra: number): Geometry | undefined {
  const { scale, causal, window, hasMask, hasBias, joint, hasLengths, tokensFirst } = node.attrs as AttentionAttrs;
  const [q, k, v] = [cx.operand(0), cx.operand(1), cx.operand(2)];
  const [B, H, T, D] = q.shape;
  const [, heads, S] = k.shape;
  if (B * H * T * S * D === 0 || !readsInPlace(q, k, v, extra > 3)) return undefined;
  const modifier = hasMask || hasBias ? cx.operand(extra) : undefined;
  const lengths = hasLengths ? cx.operand(extra + (modifier ? 1 : 0)) : undefined;
  const D4 = Math.ceil(D / 4);
  if (32 * bucket(D4) > cx.device.maxWorkgroupBytes) return undefined; // workgroup memory cannot hold one row
  const absent = [0, 0, 0, 0, 0];
  const out = (heads: number, count: number) =>
    tokensFirst ? [count * heads * D, D, heads * D] : [heads * count * D, count * D, D];
  const isResultLayout = ({ offset, shape, strides }: Operand): boolean =>
    shape[3] === D && offset === 0 && out(shape[1], shape[2]).every((n, i) => shape[i] === 1 || strides[i] === n);
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
    // A binding that the kernel does not use still needs a buffer, any that is only read.
    modifier: (modifier ?? q).buffer,
    lengths: (lengths ?? q).buffer,
    hasLengths: hasLengths ? 1 : 0,
    unit: hasBias ? 4 * Math.LOG2E : 1,
    params: { MODIFIER: (hasMask ? 1 : 0) + (hasBias ? 2 : 0), HALF: isHalf(q) ? 1 : 0 },
    KV: k.buffer.dtype === "u32" ? 2 : isHalf(k) ? 1 : 0,
    traits: { GROUPED: H === heads ? 0 : 1, LENGTHS: hasLengths ? 1 : 0, WINDOWED: window === undefined ? 0 : 1 },
    ahead: causal === "none" ? UNBOUNDED : causal === "top-left" ? 1 : S - T + 1,
    layout: (...more) => ([q, k, v, ...more].every(isResultLayout) ? (tokensFirst ? 2 : 1) : 0),
    out,
    dims: [
      ...[H, H / heads, T, S, D, D4, floatBits(hasBias ? scale / 4 : scale * Math.LOG2E)],
      ...[CAUSAL[causal], window ?? UNBOUNDED, hasLengths ? 1 : 0],
      ...[...rows(q), ...rows(k), ...rows(v), ...mask, ...bias],
    ],
  };
}

const isHalf = (x: Operand): boolean => x.buffer.dtype === "f16";

/** Whether the kernels can read these strides and dtypes. f16 rows must start at whole words. */
function readsInPlace(q: Operand, k: Operand, v: Operand, backward: boolean): boolean {
  const D = q.shape[3];
  if (isHalf(k) !== isHalf(v) || (backward && isHalf(q) !== isHalf(k))) return false;
  const hasWordRows = (x: Operand): boolean => D % 2 === 0 && rows(x).every((n) => n % 2 === 0);
  return [q, k, v].every((x) => (D === 1 || x.strides[3] === 1) && (!isHalf(x) || hasWordRows(x)));
}

/** Vectors reserved for D4, rounded up to one of few sizes: each size is a shader to compile. */
const bucket = (D4: number): number => Math.max(8, 2 ** Math.ceil(Math.log2(D4)));

/** Vectors of workgroup memory that hold all rows of a subgroup, at two rows per lane. */
const slotsOf = (SG: number, D4: number): number => 2 * SG * bucket(D4);

/** Up to this many queries, blocks of 8 save more compile time than they cost run time. */
const FEW_ROWS = { forward: 64, backward: 256 };

/**
 * A candidate. SG > 0: a subgroup of SG lanes with two rows per lane. SG = 0: `lanes` invocations with one row each. Both take
 * `block` keys (or rows, for dk and dv) at a time.
 */
type Tile = { readonly SG: number; readonly lanes: number; readonly block: number };

/**
 * The heuristic's tile, then others. Software adapters take one subgroup per workgroup: loads are expensive there, barriers
 * more so. GPUs need more invocations to stay busy. `sizes`: blocks of the subgroup kernels.
 */
function tiles({ device }: LowerContext, D4: number, sizes = [16, 8]): Tile[] {
  const { kind, subgroupSize: SG, maxWorkgroupBytes, maxInvocations } = device;
  const software = kind === "software";
  const fits = Math.floor(maxWorkgroupBytes / (32 * (software ? bucket(D4) : D4)));
  const shared = (lanes: number, block: number): Tile => ({ SG: 0, lanes, block: Math.min(block, fits) });
  if (!software) {
    const lanes = [64, 32, 128, 256].filter((n) => n <= maxInvocations);
    return unique(lanes.flatMap((n) => [16, 8, 32].map((block) => shared(n, block))));
  }
  if (SG < 4 || SG > 32 || 2 * slotsOf(SG, D4) * 16 > maxWorkgroupBytes)
    return unique([shared(16, 16), shared(32, 16)]);
  const blocks = sizes.map((n): Tile => ({ SG, lanes: SG, block: Math.max(n, SG) }));
  return unique([...blocks, shared(16, 16)]);
}

const unique = (list: Tile[]): Tile[] =>
  list.filter((a, i) => list.findIndex((b) => b.lanes === a.lanes && b.block === a.block && b.SG === a.SG) === i);

/** One of the three attention passes, for either kernel that computes it. */
interface Pass {
  /** Name of the subgroup kernel. The kernel without subgroups appends `_tiled`. */
  readonly kernel: string;
  /** Param of the tiled kernel that holds `block`. */
  readonly tiled: "KEYS" | "ROWS";
  readonly params: Readonly<Record<string, number>>;
  readonly dims: readonly number[];
  readonly bind: KernelCall["bind"];
  readonly flops: number;
  readonly rows: number;
  readonly heads: number;
  /** `Geometry.layout`. */
  readonly layout: number;
  /** The subgroup kernel stacks the query heads of a key head and numbers their rows as those of one head. */
  readonly stacked?: boolean;
  /** Tensors of which the subgroup kernel keeps its rows in workgroup memory, if they fit (param CACHE). */
  readonly planes?: number;
  /** Operands that the subgroup kernel reads in its inner loop, by vec4f if possible (param VEC), and the type aliases for that. */
  readonly streams: { readonly operands: readonly Operand[]; readonly aliases: Readonly<Record<string, string>> };
}

/** The dispatch of a pass, with the tile that the tuner has chosen. */
function passCall(g: Geometry, cx: LowerContext, pass: Pass): KernelCall {
  const { kernel, dims, bind, flops, rows, heads } = pass;
  const { T, S, D, B, H } = g;
  const signature = { T, S, D, heads: B * H, group: g.group, causal: g.dims[7], KV: g.KV, ...g.params };
  const { subgroupSize, maxWorkgroupBytes } = cx.device;
  const cached = pass.planes !== undefined && pass.planes * slotsOf(subgroupSize, g.D4) * 16 <= maxWorkgroupBytes;
  // Blocks of 16 double the shader. That pays for many rows, and in the backward pass for large D.
  const small = pass.planes === undefined ? T <= FEW_ROWS.forward : cached && g.D <= 64 && T <= FEW_ROWS.backward;
  const sizes = small ? [8, 16] : [16, 8];
  const { SG, lanes, block } = cx.choose(kernel, signature, tiles(cx, g.D4, sizes));
  const VECTORS = cx.device.kind === "software" ? bucket(g.D4) : g.D4;
  if (SG === 0) {
    const ROLLED = cx.device.kind === "software" ? 1 : 0;
    const params = { ...pass.params, WG: lanes, VECTORS, ROLLED, [pass.tiled]: block };
    const grid = [Math.ceil(rows / lanes), heads, B] as const;
    return { kernel: `${kernel}_tiled`, params, dims: [...dims, block], bind, flops, grid };
  }
  const SLOTS = slotsOf(SG, g.D4);
  const shape = { SG, PER_LANE: block / SG, SLOTS, LAYOUT: pass.layout };
  const params: Record<string, number | string> = { ...pass.params, ...g.traits, ...shape };
  if (pass.streams.operands.every(hasVectorRows)) Object.assign(params, { VEC: 1, ...pass.streams.aliases });
  if (pass.planes) params.CACHE = cached ? 1 : 0;
  const stack = pass.stacked ? g.group : 1;
  const grid = [Math.ceil((stack * rows) / (2 * SG)), heads / stack, B] as const;
  return { kernel, params, dims: [...dims, g.ahead, block, 2], bind, flops, grid };
}

/**
 * Few query rows against many keys, by attention_decode.wgsl. The keys are split if there are too few workgroups to keep the
 * adapter busy.
 */
function decode(g: Geometry, cx: LowerContext): KernelCall[] | undefined {
  const software = cx.device.kind === "software";
  const rows = g.group * g.T; // per key head
  const ROWS = Math.min(8, 2 ** Math.ceil(Math.log2(rows)));
  const vectors = bucket(g.D4);
  const sizes = (LANES: number) => ({
    CHUNK: Math.max(256, 4 * LANES),
    Q_SLOTS: ROWS * vectors,
    O_SLOTS: ROWS * Math.max(LANES, vectors),
  });
  const chunks = Math.ceil(rows / ROWS);
  const groups = g.B * (g.H / g.group) * chunks;
  const busySplits = Math.max(1, Math.floor((software ? 4 : busyGroups(cx.device)) / groups));
  const candidates = (software ? [8, 4, 16] : [64, 32, 128]).flatMap((LANES) => {
    const { CHUNK, Q_SLOTS, O_SLOTS } = sizes(LANES);
    if ((Q_SLOTS + O_SLOTS) * 16 + ROWS * (CHUNK + 4 * LANES) * 4 > cx.device.maxWorkgroupBytes) return [];
    const maxSplits = Math.ceil(Math.min(g.S, g.reach) / CHUNK);
    const splits = [busySplits, 2 * busySplits, Math.ceil(busySplits / 2)].map((n) => Math.min(n, maxSplits));
    return [...new Set(splits)].map((n) => ({ LANES, splits: n }));
  });
  if (candidates.length === 0) return undefined;
  const signature = { rows, S: g.S, D: g.D, groups, KV: g.KV, ...g.params };
  const { LANES, splits } = cx.choose("attention_decode", signature, candidates);
  const count = g.B * g.H * g.T;
  const out = g.out(g.H, g.T);
  const o = splits > 1 ? cx.temp(splits * count * g.D * 4) : cx.output(0);
  const stats = splits > 1 ? cx.temp(splits * count * 8) : cx.output(1);
  const calls: KernelCall[] = [
    {
      kernel: "attention_decode",
      params: { LANES, ROWS, ...sizes(LANES), ...g.params, KV: g.KV },
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
      dims: [count, g.H, g.T, g.D, splits, ...out, x, floatBits(g.unit)],
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
  const decoding = g.T <= 8 && tiles(cx, g.D4)[0].SG === 0 ? decode(g, cx) : undefined;
  if (decoding) return decoding;
  const pass: Pass = {
    kernel: "attention",
    tiled: "KEYS",
    params: { ...g.params, KV: g.KV },
    dims: [...g.dims, ...g.out(g.H, g.T)],
    bind: [g.q, g.k, g.v, g.modifier, g.lengths, cx.output(0), cx.output(1)],
    flops: 4 * g.pairs * g.D,
    rows: g.T,
    heads: g.H,
    layout: g.layout(),
    stacked: true,
    streams: { operands: [cx.operand(1), cx.operand(2)], aliases: { K: "vec4u" } },
  };
  return [passCall(g, cx, pass)];
};

/** Sources q, k, v, o, stats, do (, mask or bias) (, lengths); outputs dq, dk, dv. */
export const lowerAttentionBackward: Lower = (node, cx) => {
  const g = geometry(node, cx, 6);
  const grad = cx.operand(5);
  if (!g || (g.D > 1 && grad.strides[3] !== 1) || node.src[5].dtype !== "f32") return undefined;
  const rowCount = g.B * g.H * g.T;
  const stats = cx.temp(rowCount * 16);
  const LAYOUT = g.layout(grad);
  const rowsum: KernelCall = {
    kernel: "attention_stats",
    params: { ROWS: 64, LAYOUT, LENGTHS: g.hasLengths },
    dims: [g.T, g.S, g.D, ...rows(grad), ...g.out(g.H, g.T)],
    bind: [cx.operand(3).buffer, cx.operand(4).buffer, grad.buffer, g.lengths, stats],
    grid: [Math.ceil(g.T / 64), g.H, g.B],
    flops: 2 * rowCount * g.D,
  };
  const dims = [...g.dims, ...rows(grad)];
  const sources = [g.q, g.k, g.v, g.modifier, grad.buffer, stats];
  const heads = g.H / g.group;
  const dq: Pass = {
    kernel: "attention_dq",
    tiled: "KEYS",
    params: g.params,
    dims: [...dims, ...g.out(g.H, g.T)],
    bind: [...sources, cx.output(0)],
    flops: 6 * g.pairs * g.D,
    rows: g.T,
    heads: g.H,
    layout: LAYOUT,
    planes: 3,
    streams: { operands: [cx.operand(1), cx.operand(2)], aliases: { K: "vec4u" } },
  };
  const dkv: Pass = {
    kernel: "attention_dkv",
    tiled: "ROWS",
    params: g.params,
    dims: [...dims, ...g.out(heads, g.S)],
    bind: [...sources, cx.output(1), cx.output(2)],
    flops: 8 * g.pairs * g.D,
    rows: g.S,
    heads,
    layout: LAYOUT,
    planes: 4,
    streams: { operands: [cx.operand(0), grad], aliases: { Q: "vec4u", G: "vec4f" } },
  };
  return [rowsum, passCall(g, cx, dq), passCall(g, cx, dkv)];
};
