// Attention backward, gradient of the queries: dq = scale · ds k, with ds = p (dO vᵀ - rowsum(dO · o)).
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691), algorithm 2; p is recomputed from top and 1 / sum.
// Shapes: q, k, v, modifier as in attention.wgsl; g = dO [B, H, T, D], strided; dq [B, H, T, D], strided.
//   stats [B, H, T, 4] from attention_stats.wgsl, the lengths included.
// Grid: x = tiles of 2 SG rows, y = heads, z = batch. A workgroup is one subgroup; each lane owns two rows.
// Special: a kernel apart from dk and dv, because WGSL has no f32 atomics: one lane adds up each row, in a fixed order.
//   q, dq (and g, with CACHE) lie in workgroup memory, each lane in its own slots: no barrier.
//   The three products are separate loops: software adapters run both sides of a branch.
// Caution: needs a subgroup size of exactly SG; attention_dq_tiled.wgsl needs no subgroups.
enable subgroups;
diagnostic(off, subgroup_uniformity); // the analysis does not know that subgroupAny is uniform

struct Dims {
  // shared: dims from attention
  H: u32,
  group: u32, // query heads per key head
  T: u32,
  S: u32,
  D: u32,
  D4: u32, // ceil(D / 4)
  scale: f32, // times log2 e, because weights are powers of 2; with a bias a quarter
  causal: u32, // 0 none, 1 upper left, 2 lower right, as torch names them
  window: u32, // number of keys that a causal row may see, its own included
  has_lengths: u32,
  q_offset: u32, q_b: u32, q_h: u32, q_t: u32,
  k_offset: u32, k_b: u32, k_h: u32, k_t: u32,
  v_offset: u32, v_b: u32, v_h: u32, v_t: u32,
  m_offset: u32, m_b: u32, m_h: u32, m_t: u32, m_s: u32, // mask
  a_offset: u32, a_b: u32, a_h: u32, a_t: u32, a_s: u32, // bias
  // end shared
  g_offset: u32, g_b: u32, g_h: u32, g_t: u32, // gradient of o
  y_b: u32, y_h: u32, y_t: u32, // dq
  ahead: i32, // row t sees the keys before t + ahead (causal 2 with lengths: minus S - length)
  block: u32, two: u32, // BLOCK and 2: as data they keep loops rolled
}

// shared: params from attention
const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const PER_LANE: u32 = 2u; // param: keys (in attention_dkv rows) loaded per lane and block
const SLOTS: u32 = 256u; // param: vec4f of an array [D4, 2, SG] in workgroup memory
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias, 3 both
// end shared
const HALF: bool = false; // param: q, k and v hold halves, two per word
const KV: u32 = select(0u, 1u, HALF); // as in attention.wgsl
const CACHE: bool = true; // param: keep g in workgroup memory
const VEC: bool = false; // param: read k and v as vec4u: they hold f32, and D, offsets and strides are multiples of 4
alias K = u32; // param: vec4u with VEC
// shared: traits from attention
const LAYOUT: u32 = 0u; // param: 0 strides from dims; 1, 2: all tensors contiguous, as [B, H, T, D] or [B, T, H, D]
const GROUPED: bool = true; // param: several query heads share a key head
const LENGTHS: bool = true; // param: samples have lengths
const WINDOWED: bool = true; // param: `window` limits the keys of a row
const BLOCK: u32 = SG * PER_LANE;
// end shared

// shared: constants from attention
const LOG2E: f32 = 1.4426950408889634;
const MASKED: bool = (MODIFIER & 1u) != 0u;
const BIASED: bool = (MODIFIER & 2u) != 0u;
const HIDDEN: f32 = -3.4e38; // score of a hidden key
// Scores are times log2 e, or with a bias quarters: exact, and a bias of finfo.min lies far above HIDDEN.
const UNIT: f32 = select(1.0, 4.0 * LOG2E, BIASED); // the weight of a score is 2^((score - top) * UNIT)
// end shared
const UNSCALE: f32 = select(0.6931471805599453, 4.0, BIASED); // times dims.scale: the factor of the scores

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

// shared: tail from attention
/// `x`, with zeros past D.
fn tail(x: vec4f, d: u32) -> vec4f {
  return select(vec4f(), x, d * 4u + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.D));
}
// end shared

// shared: q_1 from attention
/// One value of q.
fn q_1(at: u32) -> f32 {
  if (HALF) { return unpack2x16float(q[at / 2u])[at % 2u]; }
  return bitcast<f32>(q[at]);
}
// end shared

// shared: load_k_v_vectors from attention
fn k_word(i: u32) -> u32 { return vec4u(k[i]).x; }
fn v_word(i: u32) -> u32 { return vec4u(v[i]).x; }

fn load_k(at: u32, d: u32) -> vec4f {
  if (VEC) { return bitcast<vec4f>(vec4u(k[at / 4u + d])); }
  let i = at + d * 4u;
  if (KV == 2u) { return unpack4x8snorm(k_word(at + d)); }
  if (KV == 1u) { return tail(vec4f(unpack2x16float(k_word(i / 2u)), unpack2x16float(k_word(i / 2u + 1u))), d); }
  return tail(bitcast<vec4f>(vec4u(k_word(i), k_word(i + 1u), k_word(i + 2u), k_word(i + 3u))), d);
}

fn load_v(at: u32, d: u32) -> vec4f {
  if (VEC) { return bitcast<vec4f>(vec4u(v[at / 4u + d])); }
  let i = at + d * 4u;
  if (KV == 2u) { return unpack4x8snorm(v_word(at + d)); }
  if (KV == 1u) { return tail(vec4f(unpack2x16float(v_word(i / 2u)), unpack2x16float(v_word(i / 2u + 1u))), d); }
  return tail(bitcast<vec4f>(vec4u(v_word(i), v_word(i + 1u), v_word(i + 2u), v_word(i + 3u))), d);
}
// end shared

// shared: load_g from attention_dq_tiled
fn load_g(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  return tail(vec4f(g[i], g[i + 1u], g[i + 2u], g[i + 3u]), d);
}
// end shared

// shared: product from attention
/// Adds by pairs: dot() is one chain of additions, which rounds more. Backward rounds each score as forward.
fn product(a: vec4f, b: vec4f) -> f32 {
  let p = a * b;
  return (p.x + p.y) + (p.z + p.w);
}
// end shared

// shared: visible_keys from attention
/// Which of the lane's two rows see `key`: from `firsts` on and below `limits`.
fn sees(key: u32, firsts: vec2u, limits: vec2u) -> vec2<bool> {
  let before = vec2u(key) < limits;
  if (WINDOWED) { return before & (vec2u(key) >= firsts); }
  return before;
}

/// Query row `t` sees keys below this index, which may be negative or past the last key.
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
// end shared

// shared: head from attention
/// Element at which the rows of head h of sample b begin, and their stride.
fn head(b: u32, h: u32, heads: u32, rows: u32, strides: vec4u) -> vec2u {
  let D = select(dims.D, dims.D4 * 4u, VEC);
  if (LAYOUT == 1u) { return D * vec2u((b * heads + h) * rows, 1u); }
  if (LAYOUT == 2u) { return D * vec2u(b * rows * heads + h, heads); }
  return vec2u(strides.x + b * strides.y + h * strides.z, strides.w);
}
// end shared

// shared: main from attention
@compute @workgroup_size(SG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let D4 = dims.D4;
  let T = dims.T;
// end shared
  let H = groups.y;
  let h = group.y;
  let b = group.z;
  let kv_head = select(h, h / dims.group, GROUPED);
  let kv_heads = select(H, H / dims.group, GROUPED);
  let t = vec2u(group.x * 2u * SG + lane) + vec2u(0u, SG); // rows of this lane
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
  var top = vec2f(); // reference of the exponentials
  var norm = vec2f(); // 1 / sum
  var dots = vec2f(); // rowsum(dO · o)
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
    // shared: key_block from attention
    var k_at = array<u32, PER_LANE>();
    var v_at = array<u32, PER_LANE>();
    for (var j = 0u; j < PER_LANE; j++) {
      let key = min(base + j * SG + lane, length - 1u); // never reads keys past the length
      k_at[j] = k_head.x + key * k_head.y;
      v_at[j] = v_head.x + key * v_head.y;
    }

    var bits = vec2u(0xffffffffu); // bit i: the mask lets the row see key base + i
    if (MASKED) {
      bits = vec2u();
      for (var i = 0u; i < dims.block; i++) {
        let m = m_at + min(base + i, length - 1u) * dims.m_s;
        bits |= select(vec2u(), vec2u(1u), vec2u(modifier[m.x], modifier[m.y]) != vec2u()) << vec2u(i);
      }
      if (!subgroupAny(any(bits != vec2u()))) { continue; }
    }
    // end shared

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
    // shared: bias from attention
    if (BIASED) {
      var bias = array<vec2f, BLOCK>();
      for (var i = 0u; i < dims.block; i++) {
        let m = a_at + min(base + i, length - 1u) * dims.a_s;
        bias[i] = vec2f(bitcast<f32>(modifier[m.x]), bitcast<f32>(modifier[m.y])) * 0.25;
      }
      for (var i = 0u; i < BLOCK; i++) {
        let x = p[i] + bias[i];
        p[i] = select(x, vec2f(HIDDEN), x < vec2f(HIDDEN)); // -inf hides the key, NaN stays
      }
    }
    // end shared
    for (var i = 0u; i < BLOCK; i++) {
      let seen = sees(base + i, firsts, limits) & ((bits & vec2u(1u << i)) != vec2u());
      p[i] = exp2((select(vec2f(HIDDEN), p[i], seen) - top) * UNIT) * norm;
    }

    var w = array<vec2f, BLOCK>(); // dO vᵀ
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
      var a0 = vec4f(); // sum of a block: short chains of additions round less
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
    if (t[r] < T && (VEC || d < dims.D)) { dq[y_at[r] + d] = slots[i / 4u * SG + lane][i % 4u] * scale * UNSCALE; }
  }
}
