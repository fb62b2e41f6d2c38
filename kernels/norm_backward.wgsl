// Gradient of norm.wgsl with respect to x. With h = g * weight and n = (x - mean) * scale, the normalised row,
// dx = scale * (h - mean(h) - n * mean(h * n)); RMSNorm (CENTER false) has no mean(h) term. Mean and scale of each row
// are found again from x and, with STATS, stored as two words per row for norm_weights.wgsl.
// Schedules as in softmax.wgsl.
const WG: u32 = 64u; // param: lanes of a workgroup
const LANES: u32 = 64u; // param: lanes per row, a power of two that divides WG
const CENTER: bool = true; // param: LayerNorm
const WEIGHT: bool = true; // param: without it `weight` is not read
const STATS: bool = true; // param: without it `stats` is not written
const WIDTH: u32 = 1u; // param: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4

struct Dims { rows: u32, vectors: u32, eps: f32 } // vectors = cols / WIDTH

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<V>;
@group(0) @binding(2) var<storage, read> x: array<V>;
@group(0) @binding(3) var<storage, read> weight: array<V>;
@group(0) @binding(4) var<storage, read_write> dx: array<V>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec2f>; // [rows] mean, scale

var<workgroup> scratch: array<f32, WG>;

// Mean over the row of the lanes' partial sums.
fn mean_of(sums: V, lane: u32) -> f32 {
  let w = vec4f(sums);
  let sum = select(w.x, (w.x + w.y) + (w.z + w.w), WIDTH == 4u);
  let cols = f32(dims.vectors * WIDTH);
  if (LANES == 1u) { return sum / cols; }
  scratch[lane] = sum;
  for (var s = LANES / 2u; s > 0u; s /= 2u) {
    workgroupBarrier();
    if (lane % LANES < s) { scratch[lane] += scratch[lane + s]; }
  }
  workgroupBarrier();
  let result = scratch[lane / LANES * LANES];
  workgroupBarrier();
  return result / cols;
}

fn weighted(at: u32, begin: u32) -> V {
  if (WEIGHT) { return g[at] * weight[at - begin]; }
  return g[at];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus lanes must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let first = begin + lane % LANES;

  var mean = 0.0;
  if (CENTER) {
    var sums = V();
    for (var at = first; at < end; at += LANES) { sums += x[at]; }
    mean = mean_of(sums, lane);
  }
  var squares = V();
  var hs = V();
  var products = V();
  for (var at = first; at < end; at += LANES) {
    let v = x[at] - mean;
    let h = weighted(at, begin);
    squares += v * v;
    if (CENTER) { hs += h; }
    products += h * v;
  }
  let scale = inverseSqrt(mean_of(squares, lane) + dims.eps);
  let slope = mean_of(products, lane) * scale * scale; // mean(h * n) * scale
  var shift = 0.0;
  if (CENTER) { shift = mean_of(hs, lane); }
  for (var at = first; at < end; at += LANES) {
    dx[at] = scale * (weighted(at, begin) - shift - (x[at] - mean) * slope);
  }
  if (STATS && lane % LANES == 0u && wanted == row) { stats[row] = vec2f(mean, scale); }
}
