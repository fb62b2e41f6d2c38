// Where values belong in sorted rows: the number of elements smaller than a value or, with RIGHT, not larger. NaN is the largest.
//
// Method: binary search, one invocation per value.
// Shapes: sorted [rows, length] or [1, length] for all rows, values and y i32 [rows, cols].
// Grid: y * grid_x + x = groups of WG values.
const WG: u32 = 64u; // param: size of the workgroup
const TYPE: u32 = 0u; // param: 0 = f32, 1 = i32, 2 = u32
const RIGHT: bool = false; // param: after equal elements

struct Dims { count: u32, cols: u32, length: u32, pitch: u32 } // pitch: length, or 0 where all rows share one

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> sorted: array<u32>; // bits of the elements
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<i32>;

// shared: order from scan
// A u32 with the order of the values. NaN comes last.
fn order(bits: u32) -> u32 {
  if (TYPE == 2u) { return bits; }
  if (TYPE == 1u) { return bits ^ 0x80000000u; }
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  if (bits == 0x80000000u) { return 0x80000000u; } // -0 equals 0
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}
// end shared

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.y * groups.x + group.x) * WG + lane;
  if (at >= dims.count) { return; }
  let wanted = order(values[at]);
  let start = at / dims.cols * dims.pitch;
  var low = 0u;
  var high = dims.length;
  while (low < high) {
    let middle = (low + high) / 2u;
    let found = order(sorted[start + middle]);
    if (found < wanted || (RIGHT && found == wanted)) { low = middle + 1u; } else { high = middle; }
  }
  y[at] = i32(low);
}
