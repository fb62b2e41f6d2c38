// Flash attention, forward: o = softmax(scale q kᵀ + bias) v over the keys that mask, window and length leave, and the
// softmax statistics of every row, which the backward kernels read.
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691), with the online softmax of https://arxiv.org/abs/1805.02867.
// Shapes: q [B, H, T, D], k and v [B, H / group, S, D], o [B, H, T, D]: any strides, but stride 1 along D.
//   stats [B, H, T, 2], contiguous: top, a score near the largest, in the unit of scores (see UNIT), and 1 / sum of weights.
//   modifier: a mask (u32, 0 = hidden), a bias (f32, added to the scores), or both, each with strides that may be 0.
//   lengths [B]: keys from lengths[b] on are hidden and never read.
// Grid: x = tiles of 2 SG rows, y = key heads, z = batch. A workgroup is one subgroup; each lane owns two rows.
//   A row is a query of one of the `group` heads that share a key head, numbered head first: one token fills a tile with
//   its heads.
// Special: the subgroup loads a block of BLOCK keys once and broadcasts it by shuffles: no barrier.
//   The sums are rescaled only when a score exceeds `top` by LAZY, not at every new maximum: each rescaling rounds.
//   Backward needs top and 1 / sum apart, to compute each weight as it was here: one log-sum-exp would lose 6 bits.
//   q and o lie in workgroup memory, each lane in its own slots, so the loops over D stay rolled and D is data: some
//   drivers unroll a constant D and compile for more than 10 s.
// Caution: needs a subgroup size of exactly SG; attention_tiled.wgsl needs no subgroups. Workgroup memory must start as
//   zero (WGSL guarantees it). A row that sees no key gives o = 0 and 1 / sum = 0, as torch >= 2.5.
enable subgroups;
diagnostic(off, subgroup_uniformity); // the analysis does not know that subgroupAny is uniform

struct Dims {
  // shared: dims
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
  o_b: u32, o_h: u32, o_t: u32,
  ahead: i32, // row t sees the keys before t + ahead (causal 2 with lengths: minus S - length)
  block: u32, two: u32, // BLOCK and 2: as data they keep loops rolled
}

// shared: params
const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const PER_LANE: u32 = 2u; // param: keys (in attention_dkv rows) loaded per lane and block
const SLOTS: u32 = 256u; // param: vec4f of an array [D4, 2, SG] in workgroup memory
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias, 3 both
// end shared
const HALF: bool = false; // param: q holds halves, two per word
const KV: u32 = 0u; // param: k and v hold 0 f32, 1 halves, 2 int8 (rows of D4 words, then the largest absolute value)
const VEC: bool = false; // param: read k and v as vec4u: they hold f32, and D, offsets and strides are multiples of 4
alias K = u32; // param: vec4u with VEC
// shared: traits
const LAYOUT: u32 = 0u; // param: 0 strides from dims; 1, 2: all tensors contiguous, as [B, H, T, D] or [B, T, H, D]
const GROUPED: bool = true; // param: several query heads share a key head
const LENGTHS: bool = true; // param: samples have lengths
const WINDOWED: bool = true; // param: `window` limits the keys of a row
const BLOCK: u32 = SG * PER_LANE;
// end shared

// shared: constants
const LOG2E: f32 = 1.4426950408889634;
const MASKED: bool = (MODIFIER & 1u) != 0u;
const BIASED: bool = (MODIFIER & 2u) != 0u;
const HIDDEN: f32 = -3.4e38; // score of a hidden key
// Scores are times log2 e, or with a bias quarters: exact, and a bias of finfo.min lies far above HIDDEN.
const UNIT: f32 = select(1.0, 4.0 * LOG2E, BIASED); // the weight of a score is 2^((score - top) * UNIT)
// end shared
const LAZY: f32 = 8.0 / UNIT; // rescaling waits until a score exceeds `top` by this
const FLOOR: f32 = -1.7e38; // least `top`: exp2(HIDDEN - top) is 0 even in a row of hidden keys

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

// shared: tail
/// `x`, with zeros past D.
fn tail(x: vec4f, d: u32) -> vec4f {
  return select(vec4f(), x, d * 4u + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.D));
}
// end shared

// shared: q_1
/// One value of q.
fn q_1(at: u32) -> f32 {
  if (HALF) { return unpack2x16float(q[at / 2u])[at % 2u]; }
  return bitcast<f32>(q[at]);
}
// end shared

// shared: load_k_v_vectors
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

// shared: row_scale
/// Factor of the values of a row of k or v; `word` is the one after them.
fn row_scale(word: u32) -> f32 {
  if (KV == 2u) { return bitcast<f32>(word); }
  return 1.0;
}
// end shared

// shared: product
/// Adds by pairs: dot() is one chain of additions, which rounds more. Backward rounds each score as forward.
fn product(a: vec4f, b: vec4f) -> f32 {
  let p = a * b;
  return (p.x + p.y) + (p.z + p.w);
}
// end shared

// shared: visible_keys
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

// shared: head
/// Element at which the rows of head h of sample b begin, and their stride.
fn head(b: u32, h: u32, heads: u32, rows: u32, strides: vec4u) -> vec2u {
  let D = select(dims.D, dims.D4 * 4u, VEC);
  if (LAYOUT == 1u) { return D * vec2u((b * heads + h) * rows, 1u); }
  if (LAYOUT == 2u) { return D * vec2u(b * rows * heads + h, heads); }
  return vec2u(strides.x + b * strides.y + h * strides.z, strides.w);
}
// end shared

// shared: main
@compute @workgroup_size(SG)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let D4 = dims.D4;
  let T = dims.T;
// end shared
  let kv_head = group.y;
  let b = group.z;
  let heads = select(groups.y, dims.H, GROUPED);
  let rows = select(T, dims.group * T, GROUPED);
  let mine = vec2u(group.x * 2u * SG + lane) + vec2u(0u, SG); // rows of this lane
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
  let end = limit(last_t, length); // no row of the tile sees a key from here on
  let firsts = vec2u(first_key(t.x, length), first_key(t.y, length));
  let start = first_key(first_t, length) / BLOCK * BLOCK; // nor before this one

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

  var top = vec2f(FLOOR); // reference of the sums: at most LAZY below the largest score so far
  var total = vec2f(); // sum of exp2(score - top)
  for (var base = start; base < end; base += BLOCK) {
    // shared: key_block
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
      let q0 = q_slots[slot];
      let q1 = q_slots[slot + SG];
      for (var j = 0u; j < PER_LANE; j++) {
        for (var m = 0u; m < SG; m++) {
          let key = subgroupShuffle(x[j], m);
          p[j * SG + m] += vec2f(product(q0, key), product(q1, key));
        }
      }
    }

    if (KV == 2u) {
      for (var j = 0u; j < PER_LANE; j++) {
        let largest = row_scale(k_word(k_at[j] + D4));
        for (var m = 0u; m < SG; m++) { p[j * SG + m] *= subgroupShuffle(largest, m); }
      }
    }
    // shared: bias
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
      p[i] = select(vec2f(HIDDEN), p[i], seen);
    }

    var new_top = top;
    for (var i = 0u; i < BLOCK; i++) { new_top = max(new_top, p[i]); }
    new_top = select(top, new_top, new_top > top + LAZY);
    let shrink = exp2((top - new_top) * UNIT);
    top = new_top;
    var part = vec2f(); // sum of a block: short chains of additions round less
    for (var i = 0u; i < BLOCK; i++) {
      p[i] = exp2((p[i] - top) * UNIT);
      part += p[i];
    }
    total = total * shrink + part;
    if (KV == 2u) {
      for (var j = 0u; j < PER_LANE; j++) {
        let largest = row_scale(v_word(v_at[j] + D4));
        for (var m = 0u; m < SG; m++) { p[j * SG + m] *= subgroupShuffle(largest, m); }
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
          o0 += p[j * SG + m].x * value;
          o1 += p[j * SG + m].y * value;
        }
      }
      o_slots[slot] = o_slots[slot] * shrink.x + o0;
      o_slots[slot + SG] = o_slots[slot + SG] * shrink.y + o1;
    }
  }

  let norm = select(1.0 / total, vec2f(), total == vec2f());
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
