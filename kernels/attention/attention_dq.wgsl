// Attention backward, gradient of the queries: dq = scale ds k with ds = p (dO v^T - D).
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691), algorithm 2; p is recomputed from the saved maximum and sum.
// Apart from dK and dV because WGSL has no f32 atomics: every dq row belongs to one lane, so runs are repeatable.
// Layout and grid as in attention.wgsl; g = gradient of o, strided; stats and lengths from attention_stats.wgsl; dq contiguous.
// q, dq (and g, with CACHE) lie in workgroup memory, which starts as zero, each lane in its own slot: no barrier.
// The three products are loops of their own: software adapters run both sides of a branch.
// Caution: needs a fixed subgroup size of exactly SG; attention_dq_tiled.wgsl is the same without subgroups.
enable subgroups;
diagnostic(off, subgroup_uniformity); // the analysis does not know that subgroupAny gives all lanes the same

struct Dims {
  H: u32,
  group: u32, // query heads per key head
  T: u32,
  S: u32,
  D: u32,
  D4: u32, // vectors of 4 along D, rounded up
  scale: f32, // times log2(e): exponentials are powers of 2
  causal: u32, // 0 none, 1 top-left, 2 bottom-right
  window: u32, // a causal row sees so many keys at most, its own the last
  has_lengths: u32,
  q_offset: u32, q_b: u32, q_h: u32, q_t: u32,
  k_offset: u32, k_b: u32, k_h: u32, k_t: u32,
  v_offset: u32, v_b: u32, v_h: u32, v_t: u32,
  m_offset: u32, m_b: u32, m_h: u32, m_t: u32, m_s: u32, // mask
  a_offset: u32, a_b: u32, a_h: u32, a_t: u32, a_s: u32, // bias
  g_offset: u32, g_b: u32, g_h: u32, g_t: u32, // gradient of o
  y_b: u32, y_h: u32, y_t: u32, // dq
  ahead: i32, // row t sees the keys before t + ahead (with causal 2 and lengths: fewer by what a length lacks to S)
  block: u32, two: u32, // BLOCK and 2, for loops that must stay loops
}

const SG: u32 = 8u; // param
const PER_LANE: u32 = 2u; // param
const SLOTS: u32 = 256u; // param
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias, 3 both
const HALF: bool = false; // param: q, k and v are halves, two in a word
const CACHE: bool = true; // param
const VEC: bool = false; // param: k and v are read as vec4u: f32, and D, offsets and strides are multiples of 4
alias K = u32; // param: vec4u with VEC
const LAYOUT: u32 = 0u; // param: 0 strides from dims; else all but k and v of [B, H / group, S, D] are contiguous: 1 heads first, 2 tokens first
const GROUPED: bool = true; // param: key heads serve more than one query head
const LENGTHS: bool = true; // param
const WINDOWED: bool = true; // param
const BLOCK: u32 = SG * PER_LANE;

const LOG2E: f32 = 1.4426950408889634;
const LN2: f32 = 0.6931471805599453;
const MASKED: bool = (MODIFIER & 1u) != 0u;
const BIASED: bool = (MODIFIER & 2u) != 0u;
const HIDDEN: f32 = -3.4e38; // score of a key that is not seen

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<K>;
@group(0) @binding(3) var<storage, read> v: array<K>;
@group(0) @binding(4) var<storage, read> modifier: array<u32>;
@group(0) @binding(5) var<storage, read> g: array<f32>;
@group(0) @binding(6) var<storage, read> stats: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> dq: array<f32>;

const PLANES: u32 = select(2u, 3u, CACHE);
var<workgroup> slots: array<vec4f, SLOTS * PLANES>; // dq, q (scaled), g: [PLANES, D4, 2, SG]

/// Zeroes what lies past D.
fn tail(x: vec4f, d: u32) -> vec4f {
  return select(vec4f(), x, d * 4u + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.D));
}

/// One value of q.
fn q_1(at: u32) -> f32 {
  if (HALF) { return unpack2x16float(q[at / 2u])[at % 2u]; }
  return bitcast<f32>(q[at]);
}

fn k_word(i: u32) -> u32 { return vec4u(k[i]).x; }
fn v_word(i: u32) -> u32 { return vec4u(v[i]).x; }

fn load_k(at: u32, d: u32) -> vec4f {
  if (VEC) { return bitcast<vec4f>(vec4u(k[at / 4u + d])); }
  let i = at + d * 4u;
  if (HALF) { return tail(vec4f(unpack2x16float(k_word(i / 2u)), unpack2x16float(k_word(i / 2u + 1u))), d); }
  return tail(bitcast<vec4f>(vec4u(k_word(i), k_word(i + 1u), k_word(i + 2u), k_word(i + 3u))), d);
}

fn load_v(at: u32, d: u32) -> vec4f {
  if (VEC) { return bitcast<vec4f>(vec4u(v[at / 4u + d])); }
  let i = at + d * 4u;
  if (HALF) { return tail(vec4f(unpack2x16float(v_word(i / 2u)), unpack2x16float(v_word(i / 2u + 1u))), d); }
  return tail(bitcast<vec4f>(vec4u(v_word(i), v_word(i + 1u), v_word(i + 2u), v_word(i + 3u))), d);
}

fn load_g(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  return tail(vec4f(g[i], g[i + 1u], g[i + 2u], g[i + 3u]), d);
}

/// Adds as forward does, which gives each score the same rounding.
fn product(a: vec4f, b: vec4f) -> f32 {
  let p = a * b;
  return (p.x + p.y) + (p.z + p.w);
}

/// Which of the lane's rows see `key`; `firsts` and `limits` bound what each may see.
fn sees(key: u32, firsts: vec2u, limits: vec2u) -> vec2<bool> {
  let before = vec2u(key) < limits;
  if (WINDOWED) { return before & (vec2u(key) >= firsts); }
  return before;
}

/// Keys that query row `t` may see come before this index, which may lie outside of the keys.
fn place(t: u32, length: u32) -> i32 {
  var ahead = dims.ahead;
  if (LENGTHS && dims.causal == 2u) { ahead += i32(length) - i32(dims.S); }
  return i32(t) + ahead;
}

fn limit(t: u32, length: u32) -> u32 {
  return min(length, u32(max(place(t, length), 0)));
}

/// First key in the window of query row `t`.
fn first_key(t: u32, length: u32) -> u32 {
  if (!WINDOWED) { return 0u; }
  return u32(max(place(t, length) - i32(dims.window), 0));
}

/// Where rows of a head begin, and how far apart they are.
fn head(b: u32, h: u32, heads: u32, rows: u32, strides: vec4u) -> vec2u {
  let D = select(dims.D, dims.D4 * 4u, VEC);
  if (LAYOUT == 1u) { return D * vec2u((b * heads + h) * rows, 1u); }
  if (LAYOUT == 2u) { return D * vec2u(b * rows * heads + h, heads); }
  return vec2u(strides.x + b * strides.y + h * strides.z, strides.w);
}

@compute @workgroup_size(SG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let D4 = dims.D4;
  let T = dims.T;
  let H = groups.y;
  let h = group.y;
  let b = group.z;
  let kv_head = select(h, h / dims.group, GROUPED);
  let kv_heads = select(H, H / dims.group, GROUPED);
  let t = vec2u(group.x * 2u * SG + lane) + vec2u(0u, SG); // the lane's rows
  let row = min(t, vec2u(T - 1u)); // rows past the end repeat the last one and are not stored
  let first_stat = (b * H + h) * T;
  var length = dims.S;
  if (LENGTHS) { length = u32(stats[first_stat].w); }
  let limits = vec2u(limit(row.x, length), limit(row.y, length));
  let first_t = group.x * 2u * SG;
  let last_t = min(first_t + 2u * SG, T) - 1u;
  let end = limit(last_t, length);
  let firsts = vec2u(first_key(row.x, length), first_key(row.y, length));
  let start = first_key(first_t, length) / BLOCK * BLOCK;

  let q_head = head(b, h, H, T, vec4u(dims.q_offset, dims.q_b, dims.q_h, dims.q_t));
  let g_head = head(b, h, H, T, vec4u(dims.g_offset, dims.g_b, dims.g_h, dims.g_t));
  let k_head = head(b, kv_head, kv_heads, dims.S, vec4u(dims.k_offset, dims.k_b, dims.k_h, dims.k_t));
  let v_head = head(b, kv_head, kv_heads, dims.S, vec4u(dims.v_offset, dims.v_b, dims.v_h, dims.v_t));
  let q_at = q_head.x + row * q_head.y;
  let g_at = g_head.x + row * g_head.y;
  let m_at = dims.m_offset + b * dims.m_b + h * dims.m_h + row * dims.m_t;
  let a_at = dims.a_offset + b * dims.a_b + h * dims.a_h + row * dims.a_t;
  var top = vec2f(); // largest score
  var norm = vec2f(); // 1 / sum
  var dots = vec2f(); // D = rowsum(dO * O)
  for (var r = 0u; r < dims.two; r++) {
    let stat = stats[first_stat + row[r]];
    top[r] = stat.x;
    norm[r] = stat.y;
    dots[r] = stat.z;
  }
  let scale = dims.scale;
  for (var i = 0u; i < D4 * 8u; i++) { // [D4, 2, 4]
    let r = i / 4u % 2u;
    let d = i / 8u * 4u + i % 4u;
    let slot = i / 4u * SG + lane;
    if (VEC || d < dims.D) {
      slots[SLOTS + slot][i % 4u] = q_1(q_at[r] + d) * scale;
      if (CACHE) { slots[2u * SLOTS + slot][i % 4u] = g[g_at[r] + d]; }
    }
  }

  for (var base = start; base < end; base += BLOCK) {
    var k_at = array<u32, PER_LANE>();
    var v_at = array<u32, PER_LANE>();
    for (var j = 0u; j < PER_LANE; j++) {
      let key = min(base + j * SG + lane, length - 1u); // never touches keys past the length
      k_at[j] = k_head.x + key * k_head.y;
      v_at[j] = v_head.x + key * v_head.y;
    }

    var bits = vec2u(0xffffffffu); // bit i: the mask shows key base + i to the row
    if (MASKED) {
      bits = vec2u();
      for (var i = 0u; i < dims.block; i++) {
        let m = m_at + min(base + i, length - 1u) * dims.m_s;
        bits |= select(vec2u(), vec2u(1u), vec2u(modifier[m.x], modifier[m.y]) != vec2u()) << vec2u(i);
      }
      if (!subgroupAny(any(bits != vec2u()))) { continue; }
    }

    var p = array<vec2f, BLOCK>(); // scores, then weights
    for (var d = 0u; d < D4; d++) {
      let slot = d * 2u * SG + lane;
      var x = array<vec4f, PER_LANE>();
      for (var j = 0u; j < PER_LANE; j++) { x[j] = load_k(k_at[j], d); }
      let q0 = slots[SLOTS + slot];
      let q1 = slots[SLOTS + slot + SG];
      for (var j = 0u; j < PER_LANE; j++) {
        for (var m = 0u; m < SG; m++) {
          let key = subgroupShuffle(x[j], m);
          p[j * SG + m] += vec2f(product(q0, key), product(q1, key));
        }
      }
    }
    if (BIASED) {
      var bias = array<vec2f, BLOCK>();
      for (var i = 0u; i < dims.block; i++) {
        let m = a_at + min(base + i, length - 1u) * dims.a_s;
        bias[i] = vec2f(bitcast<f32>(modifier[m.x]), bitcast<f32>(modifier[m.y])) * LOG2E;
      }
      for (var i = 0u; i < BLOCK; i++) { p[i] = max(p[i] + bias[i], vec2f(HIDDEN)); }
    }
    for (var i = 0u; i < BLOCK; i++) {
      let seen = sees(base + i, firsts, limits) & ((bits & vec2u(1u << i)) != vec2u());
      p[i] = exp2(select(vec2f(HIDDEN), p[i], seen) - top) * norm;
    }

    var w = array<vec2f, BLOCK>(); // dO v^T
    for (var d = 0u; d < D4; d++) {
      let slot = 2u * SLOTS + d * 2u * SG + lane;
      var x = array<vec4f, PER_LANE>();
      for (var j = 0u; j < PER_LANE; j++) { x[j] = load_v(v_at[j], d); }
      var g0 = vec4f();
      var g1 = vec4f();
      if (CACHE) {
        g0 = slots[slot];
        g1 = slots[slot + SG];
      } else {
        g0 = load_g(g_at.x, d);
        g1 = load_g(g_at.y, d);
      }
      for (var j = 0u; j < PER_LANE; j++) {
        for (var m = 0u; m < SG; m++) {
          let value = subgroupShuffle(x[j], m);
          w[j * SG + m] += vec2f(product(g0, value), product(g1, value));
        }
      }
    }
    for (var i = 0u; i < BLOCK; i++) { p[i] *= w[i] - dots; } // ds

    for (var d = 0u; d < D4; d++) {
      let slot = d * 2u * SG + lane;
      var x = array<vec4f, PER_LANE>();
      for (var j = 0u; j < PER_LANE; j++) { x[j] = load_k(k_at[j], d); }
      var a0 = vec4f(); // sums of a block first: shorter chains of additions round less
      var a1 = vec4f();
      for (var j = 0u; j < PER_LANE; j++) {
        for (var m = 0u; m < SG; m++) {
          let key = subgroupShuffle(x[j], m);
          a0 += p[j * SG + m].x * key;
          a1 += p[j * SG + m].y * key;
        }
      }
      slots[slot] += a0;
      slots[slot + SG] += a1;
    }
  }

  let y_head = head(b, h, H, T, vec4u(0u, dims.y_b, dims.y_h, dims.y_t));
  let y_at = y_head.x + row * y_head.y;
  for (var i = 0u; i < D4 * 8u; i++) {
    let r = i / 4u % 2u;
    let d = i / 8u * 4u + i % 4u;
    if (t[r] < T && (VEC || d < dims.D)) { dq[y_at[r] + d] = slots[i / 4u * SG + lane][i % 4u] * scale * LN2; }
  }
}
