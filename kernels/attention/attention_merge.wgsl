// Combines the splits of attention_decode.wgsl: o = sum of w_i o_i / sum of w_i, with w_i = sum_i · 2^((top_i - top) · unit).
//
// Shapes: parts [splits, rows, D], part_stats [splits, rows, 2] = top_i and 1 / sum_i, rows = B H T; o strided,
//   stats [rows, 2].
// Grid: x (and y beyond its limit) = groups of WG elements of o, one per invocation.
// A split that saw no key has 1 / sum_i = 0, hence weight 0.
struct Dims {
  rows: u32, // B H T
  H: u32,
  T: u32,
  D: u32,
  splits: u32,
  o_b: u32, o_h: u32, o_t: u32,
  grid_x: u32,
  unit: f32, // UNIT of attention.wgsl
}

const WG: u32 = 64u; // param: size of the workgroup
const FLOOR: f32 = -1.7e38; // as in attention.wgsl

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read> part_stats: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> o: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2f>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * dims.grid_x + group.x) * WG + lane;
  if (i >= dims.rows * dims.D) { return; }
  let row = i / dims.D;
  var top = FLOOR;
  for (var s = 0u; s < dims.splits; s++) { top = max(top, part_stats[s * dims.rows + row].x); }
  var total = 0.0;
  var sum = 0.0;
  for (var s = 0u; s < dims.splits; s++) {
    let part = part_stats[s * dims.rows + row];
    if (part.y == 0.0) { continue; }
    let weight = exp2((part.x - top) * dims.unit) / part.y;
    total += weight;
    sum += weight * parts[s * dims.rows * dims.D + i];
  }
  let norm = select(1.0 / total, 0.0, total == 0.0);
  let d = i % dims.D;
  o[row / dims.T / dims.H * dims.o_b + row / dims.T % dims.H * dims.o_h + row % dims.T * dims.o_t + d] = sum * norm;
  if (d == 0u) { stats[row] = vec2f(top, norm); }
}
