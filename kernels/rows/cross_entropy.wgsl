// Cross entropy of logits x [rows, cols] against one class per row: logsumexp(x) - x[target], or with smoothing s (Szegedy
// et al. 2016, torch's form) logsumexp(x) - (1 - s) x[target] - s mean(x); 0 where the target is ignored, NaN where it
// is no class. One online pass; statistics and schedules as in softmax.wgsl.
const WG: u32 = 64u; // param: lanes of a workgroup
const LANES: u32 = 64u; // param: lanes per row, a power of two that divides WG
const SMOOTH: bool = true; // param: smoothing is not 0
const WIDTH: u32 = 1u; // param: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4
alias U = u32; // param: vec4u then

struct Dims { rows: u32, vectors: u32, ignored: i32, smoothing: f32, invalid: f32 } // vectors = cols / WIDTH, invalid = NaN

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> targets: array<i32>; // [rows]
@group(0) @binding(3) var<storage, read_write> loss: array<f32>; // [rows]

const LOWEST: f32 = -3.4028234e38; // see softmax.wgsl
var<workgroup> scratch: array<f32, WG>;

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

// e^v for v <= 0. See softmax.wgsl.
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
  let row = min(wanted, dims.rows - 1u); // surplus lanes must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let first = begin + lane % LANES;
  let cols = dims.vectors * WIDTH;
  let class_ = targets[row];
  let counts = class_ != dims.ignored;
  let valid = class_ >= 0 && u32(class_) < cols;
  let hit = u32(class_) / WIDTH; // vector and component of the target
  let component = u32(class_) % WIDTH;

  var high = LOWEST;
  var sums = V();
  var plain = V();
  for (var at = first; at < end; at += LANES) {
    let v = x[at];
    let m = largest(v);
    if (m > high) { // rare after the first few columns
      sums *= exp(high - m);
      high = m;
    }
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
