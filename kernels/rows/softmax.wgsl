// Softmax or log-softmax over the last dim: y = exp(x - max) / sum exp(x - max), or the logarithm of it.
//
// Paper: online normaliser (Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867). One pass over a row finds its
// maximum and sum together, a second one writes the results.
// Shapes: x and y [rows, cols].
// Grid: y * grid_x + x = groups of WG / LANES rows. LANES invocations share a row and reduce through workgroup memory.
//   Software adapters with many rows use LANES = 1: no barrier. GPUs want neighbouring invocations on neighbouring columns.
// Special: with exp(0) = 1 exactly, the factor of the online normaliser is exactly 1 while the maximum stays.
// Caution: a row of -inf alone gives NaN, as in torch.

// shared: params
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per row, a power of two that divides WG
const WIDTH: u32 = 1u; // param: columns of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4
// end shared
const UNROLL: u32 = 1u; // param: vectors per iteration of the loops; UNROLL * LANES divides their number
const LOG: bool = false; // param: log-softmax
alias U = u32; // param: vec4u with V = vec4f

struct Dims { rows: u32, vectors: u32, block: u32 } // vectors = cols / WIDTH; block: as in norm.wgsl

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> y: array<V>;

const LOWEST: f32 = -3.4028234e38; // not -inf: exp(-inf - LOWEST) is 0, exp(-inf + inf) is NaN
var<workgroup> scratch: array<f32, WG>;

// shared: hooks from norm
// The first read of x[at]. A prologue (a residual added) computes x here, and stores it if others need it or if computing it
// again costs more. `i` = 0, row, first column.
fn load(at: u32, i: vec3u) -> V { // hook
  return x[at];
}
// Later reads of x[at].
fn reload(at: u32, i: vec3u) -> V { // hook
  return x[at];
}
// The result at `i`, with the elementwise ops that follow.
fn epilogue(value: V, i: vec3u) -> V { // hook
  return value;
}
// Stores the result. May store halves.
fn store(at: u32, value: V) { // hook
  y[at] = value;
}
// end shared

// shared: reductions
fn largest(v: V) -> f32 {
  let w = vec4f(v);
  return max(max(w.x, w.y), max(w.z, w.w));
}

fn total(v: V) -> f32 {
  let w = vec4f(v);
  return select(w.x, (w.x + w.y) + (w.z + w.w), WIDTH == 4u);
}

// Maximum or sum over the invocations of a row.
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
// end shared

// shared: power
// e^v for v <= 0. exp errs by several units in the last place, on some adapters mostly with one sign, which a sum keeps.
fn power(v: V) -> V {
  let t = v * 1.442695;
  let k = round(t);
  let f = t - k;
  let p = ((((f * 1.32647273e-3 + 9.67151299e-3) * f + 5.55073359e-2) * f + 0.240222424) * f + 0.693147004) * f + 1.0;
  return select(p * bitcast<V>(bitcast<U>(k + 12583039.0) << U(23u)), V(), v < V() - 87.0); // the last bits of 1.5 · 2^23 + 127 + k are the exponent of 2^k
}
// end shared

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  // shared: row
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus invocations repeat the last row: all must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let start = begin + lane % LANES;
  // end shared

  var high = LOWEST; // largest value so far, reference of the sums
  var tops = V() + LOWEST;
  var sums = V();
  for (var block = start; block < end; block += dims.block) {
    var part = V();
    for (var base = block; base < min(block + dims.block, end); base += UNROLL * LANES) {
      var v = array<V, UNROLL>();
      for (var t = 0u; t < UNROLL; t++) {
        let at = base + t * LANES;
        v[t] = load(at, vec3u(0u, row, (at - begin) * WIDTH));
        tops = max(tops, v[t]);
      }
      let top = largest(tops);
      let factor = power(V() + (high - top)); // 1 after the first few iterations
      high = top;
      sums *= factor;
      part *= factor;
      var sum = V();
      for (var t = 0u; t < UNROLL; t++) { sum += power(v[t] - high); }
      part += sum;
    }
    sums += part;
  }
  let row_high = across(high, lane, true);
  let sum = across(total(sums * power(V() + (high - row_high))), lane, false);
  let shift = log(sum);
  for (var at = start; at < end; at += LANES) {
    let i = vec3u(0u, row, (at - begin) * WIDTH);
    var v = reload(at, i) - row_high;
    if (LOG) { v -= shift; } else { v = power(v) / sum; }
    store(at, epilogue(v, i));
  }
}
