// Flash attention, forward: o = softmax(scale q.k^T + mask) v, and of every row the maximum score and 1 / sum.
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691), online softmax of https://arxiv.org/abs/1805.02867.
// Layout: q [B, H, T, D], k and v [B, H / group, S, D] with any strides but a unit one along D; o [B, H, T, D] and
// stats [B, H, T, 2] contiguous: the largest score log2 e, and 1 / the sum of 2^(score log2 e - largest). Apart, they
// give backward each weight as it was here; one log-sum-exp would round 6 bits of it away. The modifier is a mask (u32, 0 = hidden) or an
// additive bias (f32), read with strides that may be 0. lengths [B]: keys from there on are hidden, and never visited.
// Rows: the `group` query heads of a key head times T, numbered head first, so that one token fills tiles with its heads.
// Grid: x = tiles of 2 SG rows, y = key heads, z = batch. One subgroup per workgroup, two rows per lane.
// A block of BLOCK keys is loaded once by the subgroup and spread by shuffles, so no row needs another lane: no barrier.
// q and o lie in workgroup memory, which starts as zero, each lane in its own slot, so the loop over D stays rolled and D is data
// (a constant D is unrolled by some drivers and compiles for 10 s and more).
// A row that sees no key gives o = 0 and 1 / sum = 0 (torch gives NaN).
// Caution: needs a fixed subgroup size of exactly SG; attention_tiled.wgsl is the same without subgroups.
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
  o_b: u32, o_h: u32, o_t: u32,
  block: u32, two: u32, // BLOCK and 2, for loops that must stay loops
}

const SG: u32 = 8u; // param
const PER_LANE: u32 = 2u; // param
const SLOTS: u32 = 256u; // param
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias, 3 both
const HALF: bool = false; // param: q are halves, two in a word
const KV: u32 = 0u; // param: k and v are 0 f32, 1 halves, 2 int8: rows of D4 words and their largest absolute value
const VEC: bool = false; // param: k and v are read as vec4u: f32, and D, offsets and strides are multiples of 4
alias K = u32; // param: vec4u with VEC
const BLOCK: u32 = SG * PER_LANE;

const LOG2E: f32 = 1.4426950408889634;
const MASKED: bool = (MODIFIER & 1u) != 0u;
const BIASED: bool = (MODIFIER & 2u) != 0u;
const HIDDEN: f32 = -3.4e38; // score of a key that is not seen
const FLOOR: f32 = -1.7e38; // lowest maximum, so that exp2(HIDDEN - maximum) is 0 even in a row of hidden keys

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<K>;
@group(0) @binding(3) var<storage, read> v: array<K>;
@group(0) @binding(4) var<storage, read> modifier: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<i32>;
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2f>;

var<workgroup> q_slots: array<vec4f, SLOTS>; // [D4, 2, SG], scaled
var<workgroup> o_slots: array<vec4f, SLOTS>;

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

/// What the values of a row of k or v are to be multiplied by; `word` is the one behind them.
fn row_scale(word: u32) -> f32 {
  if (KV == 2u) { return bitcast<f32>(word); }
  return 1.0;
}

/// Bits of the members of a block at `base` that come before `end`.
fn before(end: vec2u, base: u32) -> vec2u {
  let n = min(max(end, vec2u(base)) - base, vec2u(32u));
  return select((vec2u(1u) << n) - 1u, vec2u(0xffffffffu), n == vec2u(32u));
}

/// Keys that query row `t` may see come before this index, which may lie outside of the keys.
fn place(t: u32, length: u32) -> i32 {
  return i32(t) + 1 + select(0, i32(length) - i32(dims.T), dims.causal == 2u);
}

fn limit(t: u32, length: u32) -> u32 {
  if (dims.causal == 0u) { return length; }
  return min(length, u32(max(place(t, length), 0)));
}

/// First key in the window of query row `t`.
fn first_key(t: u32, length: u32) -> u32 {
  return u32(max(place(t, length) - i32(dims.window), 0));
}

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let kv_head = group.y;
  let b = group.z;
  let rows = dims.group * dims.T;
  let mine = vec2u(group.x * 2u * SG + lane) + vec2u(0u, SG); // the lane's rows
  let row = min(mine, vec2u(rows - 1u)); // rows past the end repeat the last one and are not stored
  let h = kv_head * dims.group + row / dims.T;
  let t = row % dims.T;
  var length = dims.S;
  if (dims.has_lengths != 0u) { length = min(u32(max(lengths[b], 0)), dims.S); }
  let limits = vec2u(limit(t.x, length), limit(t.y, length));
  let first = group.x * 2u * SG; // row of the tile
  let last = min(first + 2u * SG, rows) - 1u;
  let one_head = first / dims.T == last / dims.T;
  let end = limit(select(dims.T - 1u, last % dims.T, one_head), length); // no row sees a key from here on
  let all = limit(select(0u, first % dims.T, one_head), length); // every row sees the keys before this one …
  let firsts = vec2u(first_key(t.x, length), first_key(t.y, length));
  let start = first_key(select(0u, first % dims.T, one_head), length) / BLOCK * BLOCK; // no row sees a key before it
  let all_from = first_key(select(dims.T - 1u, last % dims.T, one_head), length); // … and from this one on

  let q_at = dims.q_offset + b * dims.q_b + h * dims.q_h + t * dims.q_t;
  let k_base = dims.k_offset + b * dims.k_b + kv_head * dims.k_h;
  let v_base = dims.v_offset + b * dims.v_b + kv_head * dims.v_h;
  let m_at = dims.m_offset + b * dims.m_b + h * dims.m_h + t * dims.m_t;
  let a_at = dims.a_offset + b * dims.a_b + h * dims.a_h + t * dims.a_t;
  for (var r = 0u; r < dims.two; r++) {
    for (var i = 0u; i < dims.D; i++) { q_slots[(i / 4u * 2u + r) * SG + lane][i % 4u] = q_1(q_at[r] + i) * dims.scale; }
  }

  var top = vec2f(FLOOR); // running maximum of the scores
  var total = vec2f(); // sum of exp2(score - top)
  for (var base = start; base < end; base += BLOCK) {
    var at = array<u32, PER_LANE>();
    for (var j = 0u; j < PER_LANE; j++) { at[j] = min(base + j * SG + lane, length - 1u); } // never touches keys past the length

    var seen = before(limits, base) & ~before(firsts, base); // bit i: the row sees key base + i
    if (MASKED) {
      var bits = vec2u();
      for (var i = 0u; i < dims.block; i++) {
        let m = m_at + min(base + i, length - 1u) * dims.m_s;
        bits |= select(vec2u(), vec2u(1u), vec2u(modifier[m.x], modifier[m.y]) != vec2u()) << vec2u(i);
      }
      seen &= bits;
      if (!subgroupAny(any(seen != vec2u()))) { continue; }
    }

    var s = array<vec2f, BLOCK>();
    for (var d = 0u; d < dims.D4; d++) {
      let slot = d * 2u * SG + lane;
      var x = array<vec4f, PER_LANE>();
      for (var j = 0u; j < PER_LANE; j++) { x[j] = load_k(k_base + at[j] * dims.k_t, d); }
      let q0 = q_slots[slot];
      let q1 = q_slots[slot + SG];
      for (var j = 0u; j < PER_LANE; j++) {
        for (var m = 0u; m < SG; m++) {
          let key = subgroupShuffle(x[j], m);
          s[j * SG + m] += vec2f(dot(q0, key), dot(q1, key));
        }
      }
    }

    if (KV == 2u) {
      for (var j = 0u; j < PER_LANE; j++) {
        let largest = row_scale(k_word(k_base + at[j] * dims.k_t + dims.D4));
        for (var m = 0u; m < SG; m++) { s[j * SG + m] *= subgroupShuffle(largest, m); }
      }
    }
    if (BIASED) {
      var bias = array<vec2f, BLOCK>();
      for (var i = 0u; i < dims.block; i++) {
        let m = a_at + min(base + i, length - 1u) * dims.a_s;
        bias[i] = vec2f(bitcast<f32>(modifier[m.x]), bitcast<f32>(modifier[m.y])) * LOG2E;
      }
      for (var i = 0u; i < BLOCK; i++) { s[i] = max(s[i] + bias[i], vec2f(HIDDEN)); }
    }
    if (MASKED || base + BLOCK > all || base < all_from) {
      for (var i = 0u; i < BLOCK; i++) {
        s[i] = select(vec2f(HIDDEN), s[i], (seen & vec2u(1u << i)) != vec2u());
      }
    }

    var new_top = top;
    for (var i = 0u; i < BLOCK; i++) { new_top = max(new_top, s[i]); }
    let shrink = exp2(top - new_top);
    top = new_top;
    var part = vec2f(); // sums of a block first: shorter chains of additions round less
    for (var i = 0u; i < BLOCK; i++) {
      s[i] = exp2(s[i] - top);
      part += s[i];
    }
    total = total * shrink + part;
    if (KV == 2u) {
      for (var j = 0u; j < PER_LANE; j++) {
        let largest = row_scale(v_word(v_base + at[j] * dims.v_t + dims.D4));
        for (var m = 0u; m < SG; m++) { s[j * SG + m] *= subgroupShuffle(largest, m); }
      }
    }

    for (var d = 0u; d < dims.D4; d++) {
      let slot = d * 2u * SG + lane;
      var x = array<vec4f, PER_LANE>();
      for (var j = 0u; j < PER_LANE; j++) { x[j] = load_v(v_base + at[j] * dims.v_t, d); }
      var o0 = vec4f();
      var o1 = vec4f();
      for (var j = 0u; j < PER_LANE; j++) {
        for (var m = 0u; m < SG; m++) {
          let value = subgroupShuffle(x[j], m);
          o0 += s[j * SG + m].x * value;
          o1 += s[j * SG + m].y * value;
        }
      }
      o_slots[slot] = o_slots[slot] * shrink.x + o0;
      o_slots[slot + SG] = o_slots[slot + SG] * shrink.y + o1;
    }
  }

  let norm = select(vec2f(), 1.0 / total, total > vec2f());
  for (var r = 0u; r < dims.two; r++) {
    if (mine[r] >= rows) { continue; }
    stats[(b * dims.H + h[r]) * dims.T + t[r]] = vec2f(top[r], norm[r]);
    let out = b * dims.o_b + h[r] * dims.o_h + t[r] * dims.o_t;
    for (var i = 0u; i < dims.D; i++) { o[out + i] = o_slots[(i / 4u * 2u + r) * SG + lane][i % 4u] * norm[r]; }
  }
}
