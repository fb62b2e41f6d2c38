// Positions of the k largest of each row, in descending order, or with SMALLEST of the k smallest, in ascending order. Equal
// values in ascending order of position. NaN is the largest.
//
// Shapes: x [rows, cols], y i32 [rows, k]. Grid: y * grid_x + x = groups of WG / LANES rows; LANES invocations share a row.
// Special: iteration t finds the largest element that comes after the one of iteration t - 1. Nothing is marked or moved;
//   the row is read k times.
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per row, a power of two that divides WG
const TYPE: u32 = 0u; // param: 0 = f32, 1 = i32, 2 = u32
const SMALLEST: bool = false; // param: the smallest first

struct Dims { rows: u32, cols: u32, k: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<u32>; // bits of the elements
@group(0) @binding(2) var<storage, read_write> y: array<i32>;

var<workgroup> scratch: array<vec2u, WG>;

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

fn key(at: u32) -> u32 {
  let k = order(x[at]);
  return select(k, ~k, SMALLEST);
}

// Whether (key, position) a comes before b.
fn before(a: vec2u, b: vec2u) -> bool {
  return a.x > b.x || (a.x == b.x && a.y < b.y);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus invocations repeat the last row: all must reach the barriers
  let end = select(0u, dims.cols, wanted == row);
  let none = vec2u(0u, 0xffffffffu);
  var last = none;
  for (var t = 0u; t < dims.k; t++) {
    var best = none;
    for (var c = lane % LANES; c < end; c += LANES) {
      let candidate = vec2u(key(row * dims.cols + c), c);
      if ((t == 0u || before(last, candidate)) && before(candidate, best)) { best = candidate; }
    }
    if (LANES > 1u) {
      scratch[lane] = best;
      for (var s = LANES / 2u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (lane % LANES < s && before(scratch[lane + s], scratch[lane])) { scratch[lane] = scratch[lane + s]; }
      }
      workgroupBarrier();
      best = scratch[lane / LANES * LANES];
      workgroupBarrier();
    }
    last = best;
    if (lane % LANES == 0u && wanted == row) { y[row * dims.k + t] = i32(best.y); }
  }
}
