// Cross entropy of logits against one class per row: loss = logsumexp(x) - x[target].
// With smoothing s: logsumexp(x) - (1 - s) x[target] - s mean(x). 0 for an ignored target, NaN for a target out of range.
//
// Papers: label smoothing (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, in torch's form); online normaliser and
// exponentials as in softmax.wgsl.
// Shapes: x [rows, cols], targets and loss [rows]. Grid and LANES as in softmax.wgsl.

// shared: params from softmax
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per row, a power of two that divides WG
const WIDTH: u32 = 1u; // param: columns of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4
// end shared
const SMOOTH: bool = true; // param: smoothing is not 0
alias U = u32; // param: vec4u with V = vec4f

struct Dims { rows: u32, vectors: u32, ignored: i32, smoothing: f32, invalid: f32 } // vectors = cols / WIDTH, invalid = NaN

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> targets: array<i32>; // [rows]
@group(0) @binding(3) var<storage, read_write> loss: array<f32>; // [rows]

const LOWEST: f32 = -3.4028234e38; // not -inf: exp(-inf - LOWEST) is 0, exp(-inf + inf) is NaN
var<workgroup> scratch: array<f32, WG>;

// shared: reductions from softmax
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

// shared: power from softmax
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
  // shared: row from softmax
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus invocations repeat the last row: all must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let start = begin + lane % LANES;
  // end shared
  // shared: target
  let cols = dims.vectors * WIDTH;
  let class_ = targets[row];
  let counts = class_ != dims.ignored;
  let valid = class_ >= 0 && u32(class_) < cols;
  // end shared
  let hit = u32(class_) / WIDTH; // vector and component of the target
  let component = u32(class_) % WIDTH;

  var high = LOWEST;
  var sums = V();
  var plain = V();
  for (var at = start; at < end; at += LANES) {
    // shared: raise
    let v = x[at];
    let m = largest(v);
    if (m > high) { // rare after the first few columns
      sums *= exp(high - m);
      high = m;
    }
    // end shared
    sums += power(v - high);
    if (SMOOTH) { plain += v; }
  }
  let row_high = across(high, lane, true);
  let sum = across(total(sums) * exp(high - row_high), lane, false);
  var mean = 0.0;
  if (SMOOTH) { mean = across(total(plain), lane, false) / f32(cols); }
  if (lane % LANES == 0u && wanted == row) {
    let chosen = vec4f(x[begin + hit])[component];
    var l = (row_high - chosen) + log(sum);
    if (SMOOTH) { l += dims.smoothing * (chosen - mean); }
    loss[row] = select(0.0, select(dims.invalid, l, valid), counts);
  }
}
