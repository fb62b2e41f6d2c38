// Joins the splits of attention_decode.wgsl: o = sum of 2^(lse_i - lse) o_i with lse = log2 of the sum of 2^lse_i.
//
// Layout: parts [splits, rows, D], part_lse [splits, rows] in base 2; o [rows, D], lse [rows].
// Grid: x = elements of o in groups of WG, one lane per element. A split that saw no key has lse = -inf and weight 0.
struct Dims {
  rows: u32,
  D: u32,
  splits: u32,
  grid_x: u32,
}

const WG: u32 = 64u; // param
const FLOOR: f32 = -1.7e38;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read> part_lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> o: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * dims.grid_x + group.x) * WG + lane;
  if (i >= dims.rows * dims.D) { return; }
  let row = i / dims.D;
  var top = FLOOR;
  for (var s = 0u; s < dims.splits; s++) { top = max(top, part_lse[s * dims.rows + row]); }
  var total = 0.0;
  var sum = 0.0;
  for (var s = 0u; s < dims.splits; s++) {
    let x = part_lse[s * dims.rows + row];
    if (x < FLOOR) { continue; }
    let weight = exp2(x - top);
    total += weight;
    sum += weight * parts[s * dims.rows * dims.D + i];
  }
  o[i] = select(0.0, sum / total, total > 0.0);
  if (i % dims.D == 0u) { lse[row] = select(bitcast<f32>(0xff800000u + 0u * dims.D), top + log2(total), total > 0.0); }
}
