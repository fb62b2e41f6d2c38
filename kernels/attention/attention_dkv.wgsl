// Attention backward, gradients of keys and values: dv = pᵀ dO, dk = scale · dsᵀ q, with ds = p (dO vᵀ - rowsum(dO · o)).
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691), algorithm 2; p is recomputed from top and 1 / sum.
// Shapes: inputs as in attention_dq.wgsl; dk and dv [B, H / group, S, D], strided.
// Grid: x = tiles of 2 SG keys, y = key heads, z = batch. A workgroup is one subgroup; each lane owns two keys.
// Special: the subgroup loads blocks of BLOCK rows once and broadcasts them by shuffles. The query heads that share a key
//   head are a loop: no atomics, and a fixed order of additions.
//   dk, dv (and k, v, with CACHE) lie in workgroup memory, each lane in its own slots: no barrier.
//   A block takes three loops over D without branches, because software adapters run both sides of a branch: scores;
//   dO vᵀ and dv from one load of dO; dk. Loads outside of the loop over blocks go value by value: these adapters compile
//   a load per lane, at the price of 50 multiply-adds.
// Caution: needs a subgroup size of exactly SG; attention_dkv_tiled.wgsl needs no subgroups.
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
  y_b: u32, y_h: u32, y_t: u32, // dk and dv
  ahead: i32, // row t sees the keys before t + ahead (causal 2 with lengths: minus S - length)
  block: u32, // BLOCK: as data it keeps loops rolled
}

// shared: params from attention
const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const PER_LANE: u32 = 2u; // param: keys (in attention_dkv rows) loaded per lane and block
const SLOTS: u32 = 256u; // param: vec4f of an array [D4, 2, SG] in workgroup memory
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias, 3 both
// end shared
const HALF: bool = false; // param: q, k and v hold halves, two per word
const KV: u32 = select(0u, 1u, HALF); // as in attention.wgsl
const CACHE: bool = true; // param: keep k and v in workgroup memory
const VEC: bool = false; // param: read q and g as vectors: they hold f32, and D, offsets and strides are multiples of 4
alias Q = u32; // param: vec4u with VEC
alias G = f32; // param: vec4f with VEC
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
@group(0) @binding(1) var<storage, read> q: array<Q>;
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;
@group(0) @binding(4) var<storage, read> modifier: array<u32>;
@group(0) @binding(5) var<storage, read> g: array<G>;
@group(0) @binding(6) var<storage, read> stats: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> dk: array<f32>;
@group(0) @binding(8) var<storage, read_write> dv: array<f32>;

const PLANES: u32 = select(2u, 4u, CACHE);
var<workgroup> slots: array<vec4f, SLOTS * PLANES>; // dk, dv, k (scaled), v: [PLANES, D4, 2, SG]

// shared: tail from attention
/// `x`, with zeros past D.
fn tail(x: vec4f, d: u32) -> vec4f {
  return select(vec4f(), x, d * 4u + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.D));
}
// end shared

fn q_word(i: u32) -> u32 { return vec4u(q[i]).x; }
fn g_word(i: u32) -> f32 { return vec4f(g[i]).x; }

fn load_q(at: u32, d: u32) -> vec4f {
  if (VEC) { return bitcast<vec4f>(vec4u(q[at / 4u + d])); }
  let i = at + d * 4u;
  if (HALF) { return tail(vec4f(unpack2x16float(q_word(i / 2u)), unpack2x16float(q_word(i / 2u + 1u))), d); }
  return tail(bitcast<vec4f>(vec4u(q_word(i), q_word(i + 1u), q_word(i + 2u), q_word(i + 3u))), d);
}

// shared: load_k_v from attention_tiled
fn load_k(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  if (KV == 2u) { return unpack4x8snorm(k[at + d]); }
  if (KV == 1u) { return tail(vec4f(unpack2x16float(k[i / 2u]), unpack2x16float(k[i / 2u + 1u])), d); }
  return tail(bitcast<vec4f>(vec4u(k[i], k[i + 1u], k[i + 2u], k[i + 3u])), d);
}

fn load_v(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  if (KV == 2u) { return unpack4x8snorm(v[at + d]); }
  if (KV == 1u) { return tail(vec4f(unpack2x16float(v[i / 2u]), unpack2x16float(v[i / 2u + 1u])), d); }
  return tail(bitcast<vec4f>(vec4u(v[i], v[i + 1u], v[i + 2u], v[i + 3u])), d);
}
// end shared

fn load_g(at: u32, d: u32) -> vec4f {
  if (VEC) { return vec4f(g[at / 4u + d]); }
  let i = at + d * 4u;
  return tail(vec4f(g_word(i), g_word(i + 1u), g_word(i + 2u), g_word(i + 3u)), d);
}

/// One value of k.
fn k_1(at: u32) -> f32 {
  if (HALF) { return unpack2x16float(k[at / 2u])[at % 2u]; }
  return bitcast<f32>(k[at]);
}

/// One value of v.
fn v_1(at: u32) -> f32 {
  if (HALF) { return unpack2x16float(v[at / 2u])[at % 2u]; }
  return bitcast<f32>(v[at]);
}

// shared: product from attention
/// Adds by pairs: dot() is one chain of additions, which rounds more. Backward rounds each score as forward.
fn product(a: vec4f, b: vec4f) -> f32 {
  let p = a * b;
  return (p.x + p.y) + (p.z + p.w);
}
// end shared

/// Query row t sees the keys before t + this.
fn ahead(length: u32) -> i32 {
  if (LENGTHS && dims.causal == 2u) { return dims.ahead + i32(length) - i32(dims.S); }
  return dims.ahead;
}

/// First query row that may see `key`.
fn first_row(key: u32, length: u32) -> u32 {
  return u32(max(i32(key) + 1 - ahead(length), 0));
}

/// Row after the last one whose window includes `key`.
fn row_end(key: u32, length: u32) -> u32 {
  if (!WINDOWED) { return dims.T; }
  return min(u32(max(i32(key) + 1 + i32(dims.window) - ahead(length), 0)), dims.T);
}

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
  let S = dims.S;
  let kv_head = group.y;
  let kv_heads = groups.y;
  let b = group.z;
  let per_head = select(1u, dims.group, GROUPED);
  let H = kv_heads * per_head;
  let t = vec2u(group.x * 2u * SG + lane) + vec2u(0u, SG); // keys of this lane
  var length = S;
  if (LENGTHS) { length = u32(stats[b * H * T].w); }
  let key = min(t, vec2u(max(length, 1u) - 1u)); // keys past the length repeat the last one and are hidden
  let first_key = group.x * 2u * SG; // of the tile
  let last_key = first_key + 2u * SG; // plus 1
  let first = vec2u(first_row(t.x, length), first_row(t.y, length));
  let firsts = select(vec2u(0xffffffffu), first, t < vec2u(length)); // first row that sees each key …
  let ends = vec2u(row_end(t.x, length), row_end(t.y, length)); // … and the row after the last one

  let k_head = head(b, kv_head, kv_heads, S, vec4u(dims.k_offset, dims.k_b, dims.k_h, dims.k_t));
  let v_head = head(b, kv_head, kv_heads, S, vec4u(dims.v_offset, dims.v_b, dims.v_h, dims.v_t));
  let k_at = k_head.x + key * k_head.y;
  let v_at = v_head.x + key * v_head.y;
  if (CACHE) {
    for (var i = 0u; i < D4 * 8u; i++) { // [D4, 2, 4]
      let r = i / 4u % 2u;
      let d = i / 8u * 4u + i % 4u;
      let slot = i / 4u * SG + lane;
      if (VEC || d < dims.D) {
        slots[2u * SLOTS + slot][i % 4u] = k_1(k_at[r] + d);
        slots[3u * SLOTS + slot][i % 4u] = v_1(v_at[r] + d);
      }
    }
  }

  let scale = dims.scale;
  let start = first_row(first_key, length) / BLOCK * BLOCK;
  var end = row_end(last_key - 1u, length);
  if (first_key >= length) { end = 0u; }
  for (var i = 0u; i < per_head; i++) {
    let h = kv_head * per_head + i;
    let q_head = head(b, h, H, T, vec4u(dims.q_offset, dims.q_b, dims.q_h, dims.q_t));
    let g_head = head(b, h, H, T, vec4u(dims.g_offset, dims.g_b, dims.g_h, dims.g_t));
    let m_base = dims.m_offset + b * dims.m_b + h * dims.m_h;
    let a_base = dims.a_offset + b * dims.a_b + h * dims.a_h;
    let first_stat = (b * H + h) * T;
    for (var base = start; base < end; base += BLOCK) {
      var at = array<u32, PER_LANE>();
      var q_at = array<u32, PER_LANE>();
      var g_at = array<u32, PER_LANE>();
      for (var j = 0u; j < PER_LANE; j++) {
        at[j] = min(base + j * SG + lane, T - 1u);
        q_at[j] = q_head.x + at[j] * q_head.y;
        g_at[j] = g_head.x + at[j] * g_head.y;
      }

      var bits = vec2u(0xffffffffu); // bit i: the mask lets row base + i see the key
      if (MASKED) {
        bits = vec2u();
        for (var i = 0u; i < dims.block; i++) {
          let m = m_base + min(base + i, T - 1u) * dims.m_t + key * dims.m_s;
          bits |= select(vec2u(), vec2u(1u), vec2u(modifier[m.x], modifier[m.y]) != vec2u()) << vec2u(i);
        }
        if (!subgroupAny(any(bits != vec2u()))) { continue; }
      }

      var p = array<vec2f, BLOCK>(); // scores, then weights
      for (var d = 0u; d < D4; d++) {
        let slot = 2u * SLOTS + d * 2u * SG + lane;
        var x = array<vec4f, PER_LANE>();
        // q is scaled, not the score, as in forward: the same rounding gives the same score.
        for (var j = 0u; j < PER_LANE; j++) { x[j] = load_q(q_at[j], d) * scale; }
        var k0 = vec4f();
        var k1 = vec4f();
        if (CACHE) {
          k0 = slots[slot];
          k1 = slots[slot + SG];
        } else {
          k0 = load_k(k_at.x, d);
          k1 = load_k(k_at.y, d);
        }
        for (var j = 0u; j < PER_LANE; j++) {
          for (var m = 0u; m < SG; m++) {
            let row = subgroupShuffle(x[j], m);
            p[j * SG + m] += vec2f(product(k0, row), product(k1, row));
          }
        }
      }
      if (BIASED) {
        var bias = array<vec2f, BLOCK>();
        for (var i = 0u; i < dims.block; i++) {
          let m = a_base + min(base + i, T - 1u) * dims.a_t + key * dims.a_s;
          bias[i] = vec2f(bitcast<f32>(modifier[m.x]), bitcast<f32>(modifier[m.y])) * 0.25;
        }
        for (var i = 0u; i < BLOCK; i++) {
          let score = p[i] + bias[i];
          p[i] = select(score, vec2f(HIDDEN), score < vec2f(HIDDEN));
        }
      }

      var dots = array<f32, PER_LANE>(); // rowsum(dO · o)
      for (var j = 0u; j < PER_LANE; j++) {
        let stat = stats[first_stat + at[j]].xyz; // top, 1 / sum, rowsum(dO · o)
        dots[j] = stat.z;
        for (var m = 0u; m < SG; m++) {
          let i = j * SG + m;
          let x = subgroupShuffle(stat.xy, m);
          var seen = (vec2u(base + i) >= firsts) & (vec2u(base + i) < ends);
          seen &= (bits & vec2u(1u << i)) != vec2u();
          p[i] = exp2((select(vec2f(HIDDEN), p[i], seen) - x.x) * UNIT) * x.y;
        }
      }

      var w = array<vec2f, BLOCK>(); // dO vᵀ, then ds
      for (var d = 0u; d < D4; d++) {
        let slot = SLOTS + d * 2u * SG + lane;
        var x = array<vec4f, PER_LANE>();
        for (var j = 0u; j < PER_LANE; j++) { x[j] = load_g(g_at[j], d); }
        var v0 = vec4f();
        var v1 = vec4f();
        if (CACHE) {
          v0 = slots[2u * SLOTS + slot];
          v1 = slots[2u * SLOTS + slot + SG];
        } else {
          v0 = load_v(v_at.x, d);
          v1 = load_v(v_at.y, d);
        }
        var a0 = vec4f(); // sum of a block: short chains of additions round less
        var a1 = vec4f();
        for (var j = 0u; j < PER_LANE; j++) {
          for (var m = 0u; m < SG; m++) {
            let i = j * SG + m;
            let row = subgroupShuffle(x[j], m);
            w[i] += vec2f(product(v0, row), product(v1, row));
            a0 += p[i].x * row;
            a1 += p[i].y * row;
          }
        }
        slots[slot] += a0;
        slots[slot + SG] += a1;
      }
      for (var j = 0u; j < PER_LANE; j++) {
        for (var m = 0u; m < SG; m++) { w[j * SG + m] = p[j * SG + m] * (w[j * SG + m] - subgroupShuffle(dots[j], m)); }
      }

      for (var d = 0u; d < D4; d++) {
        let slot = d * 2u * SG + lane;
        var x = array<vec4f, PER_LANE>();
        for (var j = 0u; j < PER_LANE; j++) { x[j] = load_q(q_at[j], d) * scale; }
        var a0 = vec4f();
        var a1 = vec4f();
        for (var j = 0u; j < PER_LANE; j++) {
          for (var m = 0u; m < SG; m++) {
            let row = subgroupShuffle(x[j], m);
            a0 += w[j * SG + m].x * row;
            a1 += w[j * SG + m].y * row;
          }
        }
        slots[slot] += a0;
        slots[slot + SG] += a1;
      }
    }
  }

  let y_head = head(b, kv_head, kv_heads, S, vec4u(0u, dims.y_b, dims.y_h, dims.y_t));
  let y_at = y_head.x + t * y_head.y;
  for (var i = 0u; i < D4 * 8u; i++) {
    let r = i / 4u % 2u;
    let d = i / 8u * 4u + i % 4u;
    let slot = i / 4u * SG + lane;
    if (t[r] < S && (VEC || d < dims.D)) {
      dk[y_at[r] + d] = slots[slot][i % 4u] * UNSCALE; // q is scaled already
      dv[y_at[r] + d] = slots[SLOTS + slot][i % 4u];
    }
  }
}
