// Flash attention, forward, without subgroups: tiles of keys pass through workgroup memory.
//
// Paper, shapes, masks and lengths as in attention.wgsl. The variant for GPUs, and for adapters without a fixed subgroup
// size.
// Grid: x = tiles of WG query rows, y = heads, z = batch. One row per invocation; q and o are private arrays.
// Special: with ROLLED false the loops over D unroll, so that the arrays live in registers; some drivers take very long to
//   compile that.
// Caution: the loop over tiles needs both barriers. Without the first, a fast invocation overwrites keys that a slow one
//   still reads.
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
  o_b: u32, o_h: u32, o_t: u32,
  keys: u32, // KEYS: as data it keeps loops rolled
}

// shared: params
const WG: u32 = 64u; // param: size of the workgroup
const KEYS: u32 = 16u; // param: keys of a tile
const VECTORS: u32 = 16u; // param: vec4f of a row, at least D4
const ROLLED: bool = true; // param: loop bounds are data; false unrolls the loops, with VECTORS = D4
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias, 3 both
// end shared
const HALF: bool = false; // param: q holds halves, two per word
const KV: u32 = 0u; // param: k and v hold 0 f32, 1 halves, 2 int8 (rows of D4 words, then the largest absolute value)

// shared: constants from attention
const LOG2E: f32 = 1.4426950408889634;
const MASKED: bool = (MODIFIER & 1u) != 0u;
const BIASED: bool = (MODIFIER & 2u) != 0u;
const HIDDEN: f32 = -3.4e38; // score of a hidden key
// Scores are times log2 e, or with a bias quarters: exact, and a bias of finfo.min lies far above HIDDEN.
const UNIT: f32 = select(1.0, 4.0 * LOG2E, BIASED); // the weight of a score is 2^((score - top) * UNIT)
// end shared
const FLOOR: f32 = -1.7e38; // least `top`: exp2(HIDDEN - top) is 0 even in a row of hidden keys

// shared: bindings
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;
@group(0) @binding(4) var<storage, read> modifier: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<i32>;
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2f>;
// end shared

var<workgroup> k_tile: array<vec4f, KEYS * VECTORS>; // [KEYS, D4]
var<workgroup> v_tile: array<vec4f, KEYS * VECTORS>;

// shared: tail from attention
/// `x`, with zeros past D.
fn tail(x: vec4f, d: u32) -> vec4f {
  return select(vec4f(), x, d * 4u + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.D));
}
// end shared

// shared: load_q
fn load_q(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  if (HALF) { return tail(vec4f(unpack2x16float(q[i / 2u]), unpack2x16float(q[i / 2u + 1u])), d); }
  return tail(bitcast<vec4f>(vec4u(q[i], q[i + 1u], q[i + 2u], q[i + 3u])), d);
}
// end shared

// shared: load_k_v
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

// shared: row_scale from attention
/// Factor of the values of a row of k or v; `word` is the one after them.
fn row_scale(word: u32) -> f32 {
  if (KV == 2u) { return bitcast<f32>(word); }
  return 1.0;
}
// end shared

fn store_o(at: u32, d: u32, value: vec4f) {
  let i = at + d * 4u;
  o[i] = value.x;
  if (d * 4u + 1u < dims.D) { o[i + 1u] = value.y; }
  if (d * 4u + 2u < dims.D) { o[i + 2u] = value.z; }
  if (d * 4u + 3u < dims.D) { o[i + 3u] = value.w; }
}

// shared: modify
/// Score after mask and bias at `mask_at` and `bias_at`.
fn modify(score: f32, mask_at: u32, bias_at: u32) -> f32 {
  var x = score;
  if (BIASED) {
    x += bitcast<f32>(modifier[bias_at]) * 0.25;
    x = select(x, HIDDEN, x < HIDDEN); // -inf hides the key, NaN stays
  }
  if (MASKED) { x = select(HIDDEN, x, modifier[mask_at] != 0u); }
  return x;
}
// end shared

// shared: visible_keys
/// Query row `t` sees keys below this index, which may be negative or past the last key.
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
// end shared

// shared: main
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let D4 = select(VECTORS, dims.D4, ROLLED);
  let keys = select(KEYS, dims.keys, ROLLED);
  let h = group.y;
  let b = group.z;
  let row = min(group.x * WG + lane, dims.T - 1u); // rows past the end repeat the last one and are not stored
// end shared
  var length = dims.S;
  if (dims.has_lengths != 0u) { length = min(u32(max(lengths[b], 0)), dims.S); }
  let row_end = limit(row, length);
  let row_start = first_key(row, length);
  let end = limit(min(group.x * WG + WG, dims.T) - 1u, length); // no row of the tile sees a key from here on

  let q_at = dims.q_offset + b * dims.q_b + h * dims.q_h + row * dims.q_t;
  let k_base = dims.k_offset + b * dims.k_b + h / dims.group * dims.k_h;
  let v_base = dims.v_offset + b * dims.v_b + h / dims.group * dims.v_h;
  let m_at = dims.m_offset + b * dims.m_b + h * dims.m_h + row * dims.m_t;
  let a_at = dims.a_offset + b * dims.a_b + h * dims.a_h + row * dims.a_t;
  var x = array<vec4f, VECTORS>(); // q, scaled
  var y = array<vec4f, VECTORS>(); // o
  for (var d = 0u; d < D4; d++) { x[d] = load_q(q_at, d) * dims.scale; }

  var top = FLOOR; // largest score so far
  var total = 0.0; // sum of exp2(score - top)
  for (var base = first_key(group.x * WG, length) / keys * keys; base < end; base += keys) {
    workgroupBarrier();
    for (var i = lane; i < keys * D4; i += WG) {
      let key = min(base + i / D4, length - 1u);
      let k_at = k_base + key * dims.k_t;
      let v_at = v_base + key * dims.v_t;
      k_tile[i] = load_k(k_at, i % D4) * row_scale(k[k_at + D4]);
      v_tile[i] = load_v(v_at, i % D4) * row_scale(v[v_at + D4]);
    }
    workgroupBarrier();

    var s = array<f32, KEYS>();
    var best = top;
    for (var j = 0u; j < keys; j++) {
      var sum = 0.0;
      for (var d = 0u; d < D4; d++) { sum += dot(x[d], k_tile[j * D4 + d]); }
      s[j] = HIDDEN;
      if (base + j >= row_start && base + j < row_end) {
        s[j] = modify(sum, m_at + (base + j) * dims.m_s, a_at + (base + j) * dims.a_s);
      }
      best = max(best, s[j]);
    }
    let shrink = exp2((top - best) * UNIT);
    top = best;
    var part = 0.0;
    for (var j = 0u; j < keys; j++) {
      s[j] = exp2((s[j] - top) * UNIT);
      part += s[j];
    }
    total = total * shrink + part;
    for (var d = 0u; d < D4; d++) {
      var sum = vec4f();
      for (var j = 0u; j < keys; j++) { sum += s[j] * v_tile[j * D4 + d]; }
      y[d] = y[d] * shrink + sum;
    }
  }

  if (group.x * WG + lane >= dims.T) { return; }
  let out = b * dims.o_b + h * dims.o_h + row * dims.o_t;
  let norm = select(1.0 / total, 0.0, total == 0.0);
  stats[(b * dims.H + h) * dims.T + row] = vec2f(top, norm);
  for (var d = 0u; d < D4; d++) { store_o(out, d, y[d] * norm); }
}
