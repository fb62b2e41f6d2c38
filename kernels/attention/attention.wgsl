// Flash attention, forward: o = softmax(scale q.k^T + mask) v, and of every row a score near the largest and 1 / sum.
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691), online softmax of https://arxiv.org/abs/1805.02867. Sums are
// rescaled when a score is LAZY above what they are relative to, not at every new maximum: each time rounds them all.
// Layout: q [B, H, T, D], k and v [B, H / group, S, D] with any strides but a unit one along D; o [B, H, T, D] and
// stats [B, H, T, 2] contiguous: top, a score log2 e near the largest, and 1 / the sum of 2^(score log2 e - top). Apart, they
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
  ahead: i32, // row t sees the keys before t + ahead (with causal 2 and lengths: fewer by what a length lacks to S)
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
const LAYOUT: u32 = 0u; // param: 0 strides from dims; else q, k, v and o are contiguous: 1 heads first, 2 tokens first
const GROUPED: bool = true; // param: key heads serve more than one query head
const LENGTHS: bool = true; // param
const WINDOWED: bool = true; // param
const BLOCK: u32 = SG * PER_LANE;

const LOG2E: f32 = 1.4426950408889634;
const MASKED: bool = (MODIFIER & 1u) != 0u;
const BIASED: bool = (MODIFIER & 2u) != 0u;
const HIDDEN: f32 = -3.4e38; // score of a key that is not seen
const LAZY: f32 = 8.0;
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

/// Adds by pairs: dot() makes one chain, which rounds more.
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
  let kv_head = group.y;
  let b = group.z;
  let heads = select(groups.y, dims.H, GROUPED);
  let rows = select(T, dims.group * T, GROUPED);
  let mine = vec2u(group.x * 2u * SG + lane) + vec2u(0u, SG); // the lane's rows
  let row = min(mine, vec2u(rows - 1u)); // rows past the end repeat the last one and are not stored
  var h = vec2u(kv_head);
  var t = row;
  let first = group.x * 2u * SG; // row of the tile
  let last = min(first + 2u * SG, rows) - 1u;
  var first_t = first;
  var last_t = last;
  if (GROUPED) {
    h = kv_head * dims.group + row / T;
    t = row % T;
    let one_head = first / T == last / T;
    first_t = select(0u, first % T, one_head);
    last_t = select(T - 1u, last % T, one_head);
  }
  var length = dims.S;
  if (LENGTHS) { length = min(u32(max(lengths[b], 0)), dims.S); }
  let limits = vec2u(limit(t.x, length), limit(t.y, length));
  let end = limit(last_t, length); // no row sees a key from here on
  let firsts = vec2u(first_key(t.x, length), first_key(t.y, length));
  let start = first_key(first_t, length) / BLOCK * BLOCK; // no row sees a key before it

  let q_strides = vec4u(dims.q_offset, dims.q_b, dims.q_h, dims.q_t);
  let q_x = head(b, h.x, heads, T, q_strides);
  let q_y = head(b, h.y, heads, T, q_strides);
  let q_at = vec2u(q_x.x, q_y.x) + t * q_x.y;
  let k_head = head(b, kv_head, groups.y, dims.S, vec4u(dims.k_offset, dims.k_b, dims.k_h, dims.k_t));
  let v_head = head(b, kv_head, groups.y, dims.S, vec4u(dims.v_offset, dims.v_b, dims.v_h, dims.v_t));
  let m_at = dims.m_offset + b * dims.m_b + h * dims.m_h + t * dims.m_t;
  let a_at = dims.a_offset + b * dims.a_b + h * dims.a_h + t * dims.a_t;
  let scale = dims.scale;
  for (var i = 0u; i < D4 * 8u; i++) { // [D4, 2, 4]
    let r = i / 4u % 2u;
    let d = i / 8u * 4u + i % 4u;
    if (VEC || d < dims.D) { q_slots[i / 4u * SG + lane][i % 4u] = q_1(q_at[r] + d) * scale; }
  }

  var top = vec2f(FLOOR); // what the sums are relative to: at most LAZY below the running maximum of the scores
  var total = vec2f(); // sum of exp2(score - top)
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

    var s = array<vec2f, BLOCK>();
    for (var d = 0u; d < D4; d++) {
      let slot = d * 2u * SG + lane;
      var x = array<vec4f, PER_LANE>();
      for (var j = 0u; j < PER_LANE; j++) { x[j] = load_k(k_at[j], d); }
      let q0 = q_slots[slot];
      let q1 = q_slots[slot + SG];
      for (var j = 0u; j < PER_LANE; j++) {
        for (var m = 0u; m < SG; m++) {
          let key = subgroupShuffle(x[j], m);
          s[j * SG + m] += vec2f(product(q0, key), product(q1, key));
        }
      }
    }

    if (KV == 2u) {
      for (var j = 0u; j < PER_LANE; j++) {
        let largest = row_scale(k_word(k_at[j] + D4));
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
    for (var i = 0u; i < BLOCK; i++) {
      let seen = sees(base + i, firsts, limits) & ((bits & vec2u(1u << i)) != vec2u());
      s[i] = select(vec2f(HIDDEN), s[i], seen);
    }

    var new_top = top;
    for (var i = 0u; i < BLOCK; i++) { new_top = max(new_top, s[i]); }
    new_top = select(top, new_top, new_top > top + LAZY);
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
        let largest = row_scale(v_word(v_at[j] + D4));
        for (var m = 0u; m < SG; m++) { s[j * SG + m] *= subgroupShuffle(largest, m); }
      }
    }

    for (var d = 0u; d < D4; d++) {
      let slot = d * 2u * SG + lane;
      var x = array<vec4f, PER_LANE>();
      for (var j = 0u; j < PER_LANE; j++) { x[j] = load_v(v_at[j], d); }
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
  let o_strides = vec4u(0u, dims.o_b, dims.o_h, dims.o_t);
  let o_x = head(b, h.x, heads, T, o_strides);
  let o_y = head(b, h.y, heads, T, o_strides);
  let o_at = vec2u(o_x.x, o_y.x) + t * o_x.y;
  for (var i = 0u; i < D4 * 8u; i++) {
    let r = i / 4u % 2u;
    let d = i / 8u * 4u + i % 4u;
    if (mine[r] < rows && (VEC || d < dims.D)) { o[o_at[r] + d] = o_slots[i / 4u * SG + lane][i % 4u] * norm[r]; }
  }
  for (var r = 0u; r < dims.two; r++) {
    if (mine[r] < rows) { stats[(b * heads + h[r]) * T + t[r]] = vec2f(top[r], norm[r]); }
  }
}
