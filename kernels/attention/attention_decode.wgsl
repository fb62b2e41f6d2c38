// Flash attention for few query rows, as in decoding with a cache: the invocations of a workgroup share the keys, not the
// rows.
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691); the keys are split as in Flash-Decoding
// (https://pytorch.org/blog/flash-decoding/).
// Shapes: as in attention.wgsl. With one split, o and stats are the result; else they are partial,
//   [splits, B, H, T, …], and attention_merge.wgsl combines them.
// Grid: x = splits, y = key heads × row chunks, z = batch. A workgroup computes ROWS rows, numbered as in attention.wgsl.
// Special: split i takes the chunks i, i + splits, … of CHUNK keys: splits stay balanced however full a cache is, and none
//   reads past the length.
//   A chunk takes three steps with barriers between them: scores, 4 keys per invocation at a time; softmax; values, with
//   the invocations along D. If there are more invocations than vectors along D, groups of them take slices of the keys,
//   which are added up at the end. No subgroups.
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
  row_chunks: u32,
  splits: u32,
  out: u32, // B H T
}

const LANES: u32 = 8u; // param: size of the workgroup
const ROWS: u32 = 1u; // param: rows of a workgroup
const CHUNK: u32 = 256u; // param: keys of a chunk, a multiple of 4 LANES
const Q_SLOTS: u32 = 64u; // param: vec4f of the q rows, at least ROWS D4
const O_SLOTS: u32 = 64u; // param: vec4f of the o rows, at least ROWS max(LANES, D4)
const STEP: u32 = max(1u, 4u / ROWS); // keys per iteration of the loop over values
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias, 3 both
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

// shared: bindings from attention_tiled
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;
@group(0) @binding(4) var<storage, read> modifier: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<i32>;
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2f>;
// end shared

var<workgroup> q_rows: array<vec4f, Q_SLOTS>; // [D4, ROWS], scaled
var<workgroup> o_rows: array<vec4f, O_SLOTS>; // [slices, ROWS, D4]
var<workgroup> weights: array<f32, ROWS * CHUNK>;
var<workgroup> lane_value: array<f32, ROWS * LANES>;
// One copy per row and invocation, so that loops over rows which are not hot stay rolled: that compiles far faster.
var<workgroup> top: array<f32, ROWS * LANES>; // largest score so far
var<workgroup> total: array<f32, ROWS * LANES>; // this invocation's part of the sum of exp2(score - top)
var<workgroup> shrink: array<f32, ROWS * LANES>; // factor of older sums after `top` has risen

// shared: tail from attention
/// `x`, with zeros past D.
fn tail(x: vec4f, d: u32) -> vec4f {
  return select(vec4f(), x, d * 4u + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.D));
}
// end shared

// shared: load_q from attention_tiled
fn load_q(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  if (HALF) { return tail(vec4f(unpack2x16float(q[i / 2u]), unpack2x16float(q[i / 2u + 1u])), d); }
  return tail(bitcast<vec4f>(vec4u(q[i], q[i + 1u], q[i + 2u], q[i + 3u])), d);
}
// end shared

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

// shared: row_scale from attention
/// Factor of the values of a row of k or v; `word` is the one after them.
fn row_scale(word: u32) -> f32 {
  if (KV == 2u) { return bitcast<f32>(word); }
  return 1.0;
}
// end shared

// shared: visible_keys from attention_tiled
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

// shared: modify from attention_tiled
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

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv_head = group.y / dims.row_chunks;
  let first_row = group.y % dims.row_chunks * ROWS;
  let rows = dims.group * dims.T; // rows past the end repeat the last one and are not stored
  let k_base = dims.k_offset + b * dims.k_b + kv_head * dims.k_h;
  let v_base = dims.v_offset + b * dims.v_b + kv_head * dims.v_h;
  var length = dims.S;
  if (dims.has_lengths != 0u) { length = min(u32(max(lengths[b], 0)), dims.S); }
  let stored = min(ROWS, rows - first_row);
  var start = dims.S;
  var end = 0u;
  for (var r = 0u; r < stored; r++) {
    start = min(start, first_key((first_row + r) % dims.T, length));
    end = max(end, limit((first_row + r) % dims.T, length));
    top[r * LANES + lane] = FLOOR;
    total[r * LANES + lane] = 0.0;
  }
  for (var i = lane; i < ROWS * dims.D4; i += LANES) {
    let row = min(first_row + i % ROWS, rows - 1u);
    let at = dims.q_offset + b * dims.q_b + (kv_head * dims.group + row / dims.T) * dims.q_h + row % dims.T * dims.q_t;
    q_rows[i] = load_q(at, i / ROWS) * dims.scale;
  }
  let width = min(LANES, dims.D4); // invocations along D
  let slices = LANES / width;
  let slice = lane / width;
  for (var i = lane; i < slices * ROWS * dims.D4; i += LANES) { o_rows[i] = vec4f(); }
  workgroupBarrier();

  for (var base = (start / CHUNK + group.x) * CHUNK; base < end; base += dims.splits * CHUNK) {
    let count = min(CHUNK, end - base);
    let padded = (count + 4u * LANES - 1u) / (4u * LANES) * 4u * LANES; // rounded up with keys of weight 0
    for (var j = lane; j < padded; j += 4u * LANES) {
      let at = k_base + min(base + j + LANES * vec4u(0u, 1u, 2u, 3u), vec4u(length - 1u)) * dims.k_t;
      var s = array<vec4f, ROWS>();
      for (var d = 0u; d < dims.D4; d++) {
        let x0 = load_k(at.x, d);
        let x1 = load_k(at.y, d);
        let x2 = load_k(at.z, d);
        let x3 = load_k(at.w, d);
        for (var r = 0u; r < ROWS; r++) {
          let x = q_rows[d * ROWS + r];
          s[r] += vec4f(dot(x, x0), dot(x, x1), dot(x, x2), dot(x, x3));
        }
      }
      if (KV == 2u) {
        let word = at + vec4u(dims.D4);
        let largest = vec4f(row_scale(k[word.x]), row_scale(k[word.y]), row_scale(k[word.z]), row_scale(k[word.w]));
        for (var r = 0u; r < ROWS; r++) { s[r] *= largest; }
      }
      for (var r = 0u; r < ROWS; r++) {
        let w = r * CHUNK + j;
        weights[w] = s[r].x;
        weights[w + LANES] = s[r].y;
        weights[w + 2u * LANES] = s[r].z;
        weights[w + 3u * LANES] = s[r].w;
      }
    }

    for (var r = 0u; r < stored; r++) {
      let row = first_row + r;
      let h = kv_head * dims.group + row / dims.T;
      let t = row % dims.T;
      let row_start = first_key(t, length);
      let row_end = limit(t, length);
      let m_at = dims.m_offset + b * dims.m_b + h * dims.m_h + t * dims.m_t;
      let a_at = dims.a_offset + b * dims.a_b + h * dims.a_h + t * dims.a_t;
      var best = top[r * LANES + lane];
      for (var j = lane; j < padded; j += LANES) {
        var score = HIDDEN;
        let key = base + j;
        if (key >= row_start && key < row_end) {
          score = modify(weights[r * CHUNK + j], m_at + key * dims.m_s, a_at + key * dims.a_s);
        }
        weights[r * CHUNK + j] = score;
        best = max(best, score);
      }
      lane_value[r * LANES + lane] = best;
    }
    workgroupBarrier();
    for (var r = 0u; r < stored; r++) {
      var best = FLOOR;
      for (var i = 0u; i < LANES; i++) { best = max(best, lane_value[r * LANES + i]); }
      let slot = r * LANES + lane;
      var sum = 0.0;
      for (var j = lane; j < padded; j += LANES) {
        let p = exp2((weights[r * CHUNK + j] - best) * UNIT);
        sum += p;
        let word = v_base + min(base + j, length - 1u) * dims.v_t + dims.D4;
        weights[r * CHUNK + j] = p * row_scale(v[word]);
      }
      shrink[slot] = exp2((top[slot] - best) * UNIT);
      total[slot] = total[slot] * shrink[slot] + sum;
      top[slot] = best;
    }
    workgroupBarrier();

    for (var c = lane % width; c < dims.D4 && slice < slices; c += width) {
      var sum = array<vec4f, ROWS>();
      for (var j = slice * STEP; j < padded; j += slices * STEP) {
        var x = array<vec4f, STEP>();
        for (var i = 0u; i < STEP; i++) { x[i] = load_v(v_base + min(base + j + i, length - 1u) * dims.v_t, c); }
        for (var r = 0u; r < ROWS; r++) {
          for (var i = 0u; i < STEP; i++) { sum[r] += weights[r * CHUNK + j + i] * x[i]; }
        }
      }
      for (var r = 0u; r < ROWS; r++) {
        let slot = (slice * ROWS + r) * dims.D4 + c;
        o_rows[slot] = o_rows[slot] * shrink[r * LANES + lane] + sum[r];
      }
    }
    workgroupBarrier();
  }

  for (var r = 0u; r < stored; r++) {
    let row = first_row + r;
    let h = kv_head * dims.group + row / dims.T;
    let t = row % dims.T;
    let out = group.x * dims.out * dims.D + b * dims.o_b + h * dims.o_h + t * dims.o_t;
    var sum = 0.0;
    for (var i = 0u; i < LANES; i++) { sum += total[r * LANES + i]; }
    let norm = select(1.0 / sum, 0.0, sum == 0.0);
    if (lane == 0u) { stats[group.x * dims.out + (b * dims.H + h) * dims.T + t] = vec2f(top[r * LANES], norm); }
    for (var c = lane; c < dims.D4; c += LANES) {
      var value = vec4f();
      for (var i = 0u; i < slices; i++) { value += o_rows[(i * ROWS + r) * dims.D4 + c]; }
      for (var d = 0u; d < min(4u, dims.D - c * 4u); d++) { o[out + c * 4u + d] = value[d] * norm; }
    }
  }
}
