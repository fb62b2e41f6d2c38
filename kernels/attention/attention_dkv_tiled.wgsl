// Attention backward, gradients of keys and values, without subgroups: tiles of query rows pass through workgroup memory.
//
// Paper, shapes and statistics as in attention_dkv.wgsl; arrays and caution as in attention_tiled.wgsl.
// Grid: x = tiles of WG keys, y = key heads, z = batch. One key per invocation, which loops over the query heads of its
// key head.
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
  rows: u32, // ROWS: as data it keeps loops rolled
}

const WG: u32 = 64u; // param: size of the workgroup
const ROWS: u32 = 16u; // param: query rows of a tile
const VECTORS: u32 = 16u; // param: vec4f of a row, at least D4
const ROLLED: bool = true; // param: loop bounds are data; false unrolls the loops, with VECTORS = D4
const MODIFIER: u32 = 0u; // param: 0 none, 1 mask, 2 bias, 3 both
const HALF: bool = false; // param: q, k and v hold halves, two per word
const KV: u32 = select(0u, 1u, HALF); // as in attention.wgsl

// shared: constants from attention
const LOG2E: f32 = 1.4426950408889634;
const MASKED: bool = (MODIFIER & 1u) != 0u;
const BIASED: bool = (MODIFIER & 2u) != 0u;
const HIDDEN: f32 = -3.4e38; // score of a hidden key
// Scores are times log2 e, or with a bias quarters: exact, and a bias of finfo.min lies far above HIDDEN.
const UNIT: f32 = select(1.0, 4.0 * LOG2E, BIASED); // the weight of a score is 2^((score - top) * UNIT)
// end shared
const UNSCALE: f32 = select(0.6931471805599453, 4.0, BIASED); // times dims.scale: the factor of the scores

// shared: inputs from attention_dq_tiled
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;
@group(0) @binding(4) var<storage, read> modifier: array<u32>;
@group(0) @binding(5) var<storage, read> g: array<f32>;
@group(0) @binding(6) var<storage, read> stats: array<vec4f>;
// end shared
@group(0) @binding(7) var<storage, read_write> dk: array<f32>;
@group(0) @binding(8) var<storage, read_write> dv: array<f32>;

var<workgroup> q_tile: array<vec4f, ROWS * VECTORS>; // [ROWS, D4]
var<workgroup> g_tile: array<vec4f, ROWS * VECTORS>;

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

// shared: load_g from attention_dq_tiled
fn load_g(at: u32, d: u32) -> vec4f {
  let i = at + d * 4u;
  return tail(vec4f(g[i], g[i + 1u], g[i + 2u], g[i + 3u]), d);
}
// end shared

fn store_dk(at: u32, d: u32, value: vec4f) {
  let i = at + d * 4u;
  dk[i] = value.x;
  if (d * 4u + 1u < dims.D) { dk[i + 1u] = value.y; }
  if (d * 4u + 2u < dims.D) { dk[i + 2u] = value.z; }
  if (d * 4u + 3u < dims.D) { dk[i + 3u] = value.w; }
}

fn store_dv(at: u32, d: u32, value: vec4f) {
  let i = at + d * 4u;
  dv[i] = value.x;
  if (d * 4u + 1u < dims.D) { dv[i + 1u] = value.y; }
  if (d * 4u + 2u < dims.D) { dv[i + 2u] = value.z; }
  if (d * 4u + 3u < dims.D) { dv[i + 3u] = value.w; }
}

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

/// First query row that may see `key`.
fn first_row(key: u32, length: u32) -> u32 {
  if (dims.causal == 0u) { return 0u; }
  return u32(max(i32(key) - select(0, i32(length) - i32(dims.T), dims.causal == 2u), 0));
}

/// Row after the last one whose window includes `key`.
fn row_end(key: u32, length: u32) -> u32 {
  if (dims.causal == 0u) { return dims.T; }
  let last = i32(key) + i32(dims.window) - select(0, i32(length) - i32(dims.T), dims.causal == 2u);
  return min(u32(max(last, 0)), dims.T);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let D4 = select(VECTORS, dims.D4, ROLLED);
  let rows = select(ROWS, dims.rows, ROLLED);
  let kv_head = group.y;
  let b = group.z;
  let t = group.x * WG + lane;
  let length = u32(stats[b * dims.H * dims.T].w);
  let key = min(t, max(length, 1u) - 1u); // keys past the length repeat the last one and are hidden
  let first = select(dims.T, first_row(t, length), t < length); // first row that sees the key …
  let last = row_end(t, length); // … and the row after the last one

  let k_at = dims.k_offset + b * dims.k_b + kv_head * dims.k_h + key * dims.k_t;
  let v_at = dims.v_offset + b * dims.v_b + kv_head * dims.v_h + key * dims.v_t;
  var k_row = array<vec4f, VECTORS>();
  var v_row = array<vec4f, VECTORS>();
  var y = array<vec4f, VECTORS>(); // dk
  var z = array<vec4f, VECTORS>(); // dv
  for (var d = 0u; d < D4; d++) {
    k_row[d] = load_k(k_at, d);
    v_row[d] = load_v(v_at, d);
  }

  let start = first_row(group.x * WG, length) / rows * rows;
  var end = row_end(group.x * WG + WG - 1u, length);
  if (group.x * WG >= length) { end = 0u; }
  for (var h = kv_head * dims.group; h < (kv_head + 1u) * dims.group; h++) {
    let q_base = dims.q_offset + b * dims.q_b + h * dims.q_h;
    let g_base = dims.g_offset + b * dims.g_b + h * dims.g_h;
    let m_at = dims.m_offset + b * dims.m_b + h * dims.m_h + key * dims.m_s;
    let a_at = dims.a_offset + b * dims.a_b + h * dims.a_h + key * dims.a_s;
    let first_stat = (b * dims.H + h) * dims.T;
    for (var base = start; base < end; base += rows) {
      workgroupBarrier();
      for (var i = lane; i < rows * D4; i += WG) {
        let row = min(base + i / D4, dims.T - 1u);
        q_tile[i] = load_q(q_base + row * dims.q_t, i % D4) * dims.scale; // as in forward: the same score
        g_tile[i] = load_g(g_base + row * dims.g_t, i % D4);
      }
      workgroupBarrier();

      var p = array<f32, ROWS>();
      var ds = array<f32, ROWS>();
      for (var j = 0u; j < rows; j++) {
        var sum = 0.0;
        var dp = 0.0; // dO vᵀ
        for (var d = 0u; d < D4; d++) {
          sum += dot(k_row[d], q_tile[j * D4 + d]);
          dp += dot(v_row[d], g_tile[j * D4 + d]);
        }
        let row = base + j;
        let stat = stats[first_stat + min(row, dims.T - 1u)]; // top, 1 / sum, rowsum(dO · o)
        var score = HIDDEN;
        if (row >= first && row < last) { score = modify(sum, m_at + row * dims.m_t, a_at + row * dims.a_t); }
        p[j] = exp2((score - stat.x) * UNIT) * stat.y;
        ds[j] = p[j] * (dp - stat.z);
      }
      for (var d = 0u; d < D4; d++) {
        var a = vec4f();
        var c = vec4f();
        for (var j = 0u; j < rows; j++) {
          a += ds[j] * q_tile[j * D4 + d];
          c += p[j] * g_tile[j * D4 + d];
        }
        y[d] += a;
        z[d] += c;
      }
    }
  }

  if (t >= dims.S) { return; }
  let out = b * dims.y_b + kv_head * dims.y_h + t * dims.y_t;
  for (var d = 0u; d < D4; d++) {
    store_dk(out, d, y[d] * UNSCALE); // q is scaled already
    store_dv(out, d, z[d]);
  }
}
