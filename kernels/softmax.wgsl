// Softmax or log-softmax over the last dim of x [rows, cols], with the online normaliser of Milakov and Gimelshein (2018).
//
// LANES lanes share a row and reduce through workgroup memory. LANES = 1 (no barrier) is the schedule of software
// adapters with many rows; GPUs want neighbouring lanes on neighbouring columns. A row of -inf alone gives NaN, as in torch.
const WG: u32 = 64u; // param: lanes of a workgroup
const LANES: u32 = 64u; // param: lanes per row, a power of two that divides WG
const LOG: bool = false; // param
const WIDTH: u32 = 1u; // param: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4

struct Dims { rows: u32, vectors: u32 } // vectors = cols / WIDTH

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

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus lanes repeat the last row: they must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let start = begin + lane % LANES;

  var high = LOWEST;
  var sums = V();
  for (var at = start; at < end; at += LANES) {
    let v = first(at, vec3u(0u, row, (at - begin) * WIDTH));
    let m = largest(v);
    if (m > high) { // rare after the first few columns
      sums *= exp(high - m);
      high = m;
    }
    sums += exp(v - high);
  }
  let row_high = across(high, lane, true);
  let row_sum = across(total(sums) * exp(high - row_high), lane, false);
  let scale = 1.0 / row_sum;
  let shift = log(row_sum);
  for (var at = start; at < end; at += LANES) {
    let i = vec3u(0u, row, (at - begin) * WIDTH);
    var v = again(at, i) - row_high;
    if (LOG) { v -= shift; } else { v = exp(v) * scale; }
    store(at, epilogue(v, i));
  }
}
