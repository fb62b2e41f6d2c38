// Softmax or log-softmax over the last dim of x [rows, cols] in two readings of a row: an online normaliser (Milakov and
// Gimelshein 2018), whose factor is exactly 1 while there is no new largest value, and the results.
//
// LANES lanes share a row and reduce through workgroup memory. LANES = 1 (no barrier) is the schedule of software
// adapters with many rows; GPUs want neighbouring lanes on neighbouring columns. A row of -inf alone gives NaN, as in torch.
const WG: u32 = 64u; // param: lanes of a workgroup
const LANES: u32 = 64u; // param: lanes per row, a power of two that divides WG
const TURN: u32 = 1u; // param: vectors a lane does in a turn of its loops; TURN * LANES divides their number
const LOG: bool = false; // param
const WIDTH: u32 = 1u; // param: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4
alias U = u32; // param: vec4u then

struct Dims { rows: u32, vectors: u32, block: u32 } // vectors = cols / WIDTH; block as in norm.wgsl

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> y: array<V>;

const LOWEST: f32 = -3.4028234e38; // not -inf: exp(-inf - LOWEST) is 0, exp(-inf + inf) is NaN
var<workgroup> scratch: array<f32, WG>;

// x[at] for the first time, and again, as in norm.wgsl. `i` = 0, row, first column.
fn first(at: u32, i: vec3u) -> V { // hook
  return x[at];
}
fn again(at: u32, i: vec3u) -> V { // hook
  return x[at];
}
fn epilogue(value: V, i: vec3u) -> V { // hook
  return value;
}
fn store(at: u32, value: V) { // hook
  y[at] = value;
}

fn largest(v: V) -> f32 {
  let w = vec4f(v);
  return max(max(w.x, w.y), max(w.z, w.w));
}

fn total(v: V) -> f32 {
  let w = vec4f(v);
  return select(w.x, (w.x + w.y) + (w.z + w.w), WIDTH == 4u);
}

// Largest value or sum over the lanes of a row.
fn across(v: f32, lane: u32, maximum: bool) -> f32 {
  if (LANES == 1u) { return v; }
  scratch[lane] = v;
  for (var s = LANES / 2u; s > 0u; s /= 2u) {
    workgroupBarrier();
    if (lane % LANES < s) {
      let other = scratch[lane + s];
      scratch[lane] = select(scratch[lane] + other, max(scratch[lane], other), maximum);
    }
  }
  workgroupBarrier();
  let result = scratch[lane / LANES * LANES];
  workgroupBarrier();
  return result;
}

// e^v for v <= 0. The errors of exp are several units, and on some adapters most of them have one sign, which a sum keeps.
fn power(v: V) -> V {
  let t = v * 1.442695;
  let k = round(t);
  let f = t - k;
  let p = ((((f * 1.32647273e-3 + 9.67151299e-3) * f + 5.55073359e-2) * f + 0.240222424) * f + 0.693147004) * f + 1.0;
  return select(p * bitcast<V>(bitcast<U>(k + 12583039.0) << U(23u)), V(), v < V() - 87.0); // 1.5 2^23 + 127 + k ends in k's exponent
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus lanes repeat the last row: they must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let start = begin + lane % LANES;

  var high = LOWEST; // largest value so far, to which the sums are relative
  var tops = V() + LOWEST;
  var sums = V();
  for (var block = start; block < end; block += dims.block) {
    var part = V();
    for (var base = block; base < min(block + dims.block, end); base += TURN * LANES) {
      var v = array<V, TURN>();
      for (var t = 0u; t < TURN; t++) {
        let at = base + t * LANES;
        v[t] = first(at, vec3u(0u, row, (at - begin) * WIDTH));
        tops = max(tops, v[t]);
      }
      let top = largest(tops);
      let factor = power(V() + (high - top)); // 1 after the first few turns
      high = top;
      sums *= factor;
      part *= factor;
      var turn = V();
      for (var t = 0u; t < TURN; t++) { turn += power(v[t] - high); }
      part += turn;
    }
    sums += part;
  }
  let row_high = across(high, lane, true);
  let sum = across(total(sums * power(V() + (high - row_high))), lane, false);
  let shift = log(sum);
  for (var at = start; at < end; at += LANES) {
    let i = vec3u(0u, row, (at - begin) * WIDTH);
    var v = again(at, i) - row_high;
    if (LOG) { v -= shift; } else { v = power(v) / sum; }
    store(at, epilogue(v, i));
  }
}
