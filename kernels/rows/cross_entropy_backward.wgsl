// Gradient of cross_entropy.wgsl: dx = (softmax(x) - wanted) · g, with wanted = (1 - s) [column = target] + s / cols.
// 0 for an ignored target, NaN for a target out of range.
//
// Shapes: x and dx [rows, cols], g and targets [rows]. Grid and LANES as in softmax.wgsl.
// Special: the maximum and the sum of a row are computed again, so that dx is the only array of size [rows, cols].

// shared: params from softmax
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per row, a power of two that divides WG
const WIDTH: u32 = 1u; // param: columns of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4
// end shared

struct Dims { rows: u32, vectors: u32, ignored: i32, smoothing: f32, invalid: f32 } // vectors = cols / WIDTH, invalid = NaN

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<f32>; // [rows]
@group(0) @binding(2) var<storage, read> x: array<V>;
@group(0) @binding(3) var<storage, read> targets: array<i32>; // [rows]
@group(0) @binding(4) var<storage, read_write> dx: array<V>;

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

// The first columns of a vector. Lowerings return all of them for V = vec4f.
fn columns(v: vec4f) -> V { // hook
  return v.x;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  // shared: row from softmax
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus invocations repeat the last row: all must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let start = begin + lane % LANES;
  // end shared
  // shared: target from cross_entropy
  let cols = dims.vectors * WIDTH;
  let class_ = targets[row];
  let counts = class_ != dims.ignored;
  let valid = class_ >= 0 && u32(class_) < cols;
  // end shared

  var high = LOWEST;
  var sums = V();
  for (var at = start; at < end; at += LANES) {
    // shared: raise from cross_entropy
    let v = x[at];
    let m = largest(v);
    if (m > high) { // rare after the first few columns
      sums *= exp(high - m);
      high = m;
    }
    // end shared
    sums += exp(v - high);
  }
  let row_high = across(high, lane, true);
  let sum = across(total(sums) * exp(high - row_high), lane, false);
  let scale = 1.0 / sum;
  let factor = select(dims.invalid, g[row], valid);
  let rest = dims.smoothing / f32(cols);
  let share = select(vec4f(), vec4f((1.0 - dims.smoothing) * factor), vec4u(0u, 1u, 2u, 3u) == vec4u(u32(class_) % WIDTH));
  let hit = begin + u32(class_) / WIDTH;
  for (var at = start; at < end; at += LANES) {
    let v = (exp(x[at] - row_high) * scale - rest) * factor - select(V(), columns(share), valid && at == hit);
    dx[at] = select(V(), v, counts);
  }
}
