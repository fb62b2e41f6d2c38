// Flash attention for few query rows, as in decoding with a cache: lanes share the keys, not the rows.
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691); split over keys as in Flash-Decoding
// (https://pytorch.org/blog/flash-decoding/). Layout as in attention.wgsl.
// Rows: the `group` query heads of a key head times T, numbered head first; ROWS of them per workgroup.
// Grid: x = splits, y = key heads x row chunks, z = batch. Split i takes the CHUNKs i, i + splits, … of the keys, so
// splits stay balanced whatever part of a cache is filled, and none goes past the length. With one split o and stats are
// the result; else they are partial, [splits, B, H, T, …], and attention_merge.wgsl joins them.
// A chunk in three steps: scores, 4 keys per lane at a time; softmax; values, lanes along D (and, where there are more
// lanes than vectors along D, slices of the keys, added up at the end). Barriers separate the steps, no subgroups needed.
struct Dims {
  H: u32,
  group: u32, // query heads per key head
  T: u32,
  S: u32,
  D: u32,
  D4: u32, // vectors of 4 along D, rounded up
  scale: f32, // times log2(e): exponentials are powers of 2
  causal: u32, // 0 none, 1 top-left, 2 bottom-right
  has_lengths: u32,
  q_offset: u32, q_b: u32, q_h: u32, q_t: u32,
  k_offset: u32, k_b: u32, k_h: u32, k_t: u32,
  v_offset: u32, v_b: u32, v_h: u32, v_t: u32,
  m_offset: u32, m_b: u32, m_h: u32, m_t: u32, m_s: u32,
  row_chunks: u32,
  splits: u32,
  out: u32, // B H T
}

const LANES: u32 = 8u; // param
const ROWS: u32 = 1u; // param
const CHUNK: u32 = 256u; // param: a multiple of 4 LANES
const Q_SLOTS: u32 = 64u; // param: at least ROWS D4
const O_SLOTS: u32 = 64u; // param: at least ROWS max(LANES, D4)
const STEP: u32 = max(1u, 4u / ROWS); // keys per turn of the loop over values
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias

const LOG2E: f32 = 1.4426950408889634;
const HIDDEN: f32 = -3.4e38; // score of a key that is not seen
const FLOOR: f32 = -1.7e38; // lowest maximum, so that exp2(HIDDEN - maximum) is 0 even in a row of hidden keys

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> modifier: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<i32>;
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2f>;

var<workgroup> q_rows: array<vec4f, Q_SLOTS>; // [D4, ROWS], scaled
var<workgroup> o_rows: array<vec4f, O_SLOTS>; // [slices, ROWS, D4]
var<workgroup> weights: array<f32, ROWS * CHUNK>;
var<workgroup> lane_value: array<f32, ROWS * LANES>;
// Of each row, every lane's own copy: loops over rows that are not hot stay loops, which compiles far faster.
var<workgroup> top: array<f32, ROWS * LANES>; // running maximum of the scores
var<workgroup> total: array<f32, ROWS * LANES>; // the lane's part of the sum of exp2(score - top)
var<workgroup> shrink: array<f32, ROWS * LANES>; // what an older sum is worth after the maximum has risen

/// Zeroes what lies past D.
fn tail(x: vec4f, d: u32) -> vec4f {
  return select(vec4f(), x, d * 4u + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.D));
}

fn load_q(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  return tail(vec4f(q[i], q[i + 1u], q[i + 2u], q[i + 3u]), d);
}

fn load_k(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  return tail(vec4f(k[i], k[i + 1u], k[i + 2u], k[i + 3u]), d);
}

fn load_v(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  return tail(vec4f(v[i], v[i + 1u], v[i + 2u], v[i + 3u]), d);
}

/// Keys that query row `t` may see: those before the returned index.
fn limit(t: u32, length: u32) -> u32 {
  if (dims.causal == 0u) { return length; }
  let last = i32(t) + 1 + select(0, i32(length) - i32(dims.T), dims.causal == 2u);
  return min(length, u32(max(last, 0)));
}

/// Score after mask or bias; `at` addresses the modifier.
fn modify(score: f32, at: u32) -> f32 {
  if (MODIFIER == 1u) { return select(HIDDEN, score, modifier[at] != 0u); }
  if (MODIFIER == 2u) { return max(score + bitcast<f32>(modifier[at]) * LOG2E, HIDDEN); }
  return score;
}

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
  var end = 0u;
  for (var r = 0u; r < stored; r++) {
    end = max(end, limit((first_row + r) % dims.T, length));
    top[r * LANES + lane] = FLOOR;
    total[r * LANES + lane] = 0.0;
  }
  for (var i = lane; i < ROWS * dims.D4; i += LANES) {
    let row = min(first_row + i % ROWS, rows - 1u);
    let at = dims.q_offset + b * dims.q_b + (kv_head * dims.group + row / dims.T) * dims.q_h + row % dims.T * dims.q_t;
    q_rows[i] = load_q(at, i / ROWS) * dims.scale;
  }
  let width = min(LANES, dims.D4); // lanes along D
  let slices = LANES / width;
  let slice = lane / width;
  for (var i = lane; i < slices * ROWS * dims.D4; i += LANES) { o_rows[i] = vec4f(); }
  workgroupBarrier();

  for (var base = group.x * CHUNK; base < end; base += dims.splits * CHUNK) {
    let count = min(CHUNK, end - base);
    let padded = (count + 4u * LANES - 1u) / (4u * LANES) * 4u * LANES; // with keys of weight 0
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
      let row_end = limit(row % dims.T, length);
      let m_at = dims.m_offset + b * dims.m_b + (kv_head * dims.group + row / dims.T) * dims.m_h + row % dims.T * dims.m_t;
      var best = top[r * LANES + lane];
      for (var j = lane; j < padded; j += LANES) {
        var score = HIDDEN;
        if (base + j < row_end) { score = modify(weights[r * CHUNK + j], m_at + (base + j) * dims.m_s); }
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
        let p = exp2(weights[r * CHUNK + j] - best);
        weights[r * CHUNK + j] = p;
        sum += p;
      }
      shrink[slot] = exp2(top[slot] - best);
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
    let out = group.x * dims.out + (b * dims.H + kv_head * dims.group + row / dims.T) * dims.T + row % dims.T;
    var sum = 0.0;
    for (var i = 0u; i < LANES; i++) { sum += total[r * LANES + i]; }
    let norm = select(0.0, 1.0 / sum, sum > 0.0);
    if (lane == 0u) { stats[out] = vec2f(top[r * LANES], norm); }
    for (var c = lane; c < dims.D4; c += LANES) {
      var value = vec4f();
      for (var i = 0u; i < slices; i++) { value += o_rows[(i * ROWS + r) * dims.D4 + c]; }
      for (var d = 0u; d < min(4u, dims.D - c * 4u); d++) { o[out * dims.D + c * 4u + d] = value[d] * norm; }
    }
  }
}
