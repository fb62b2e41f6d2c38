// Positions that sort each row; rows of at most SIZE elements. Equal elements keep their order, NaN is the largest.
//
// Paper: bitonic network (Batcher 1968) in workgroup memory. Keys and positions together are distinct, so it is stable.
// Shapes: x [rows, cols], y i32 [rows, cols]. Grid: y * grid_x + x = groups of ROWS rows.
const WG: u32 = 64u; // param: size of the workgroup
const SIZE: u32 = 128u; // param: a power of two, at least cols
const ROWS: u32 = 1u; // param: rows of a workgroup; ROWS * SIZE is at most 1024
const TYPE: u32 = 0u; // param: 0 = f32, 1 = i32, 2 = u32
const DESCENDING: bool = false; // param: the largest first

struct Dims { rows: u32, cols: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<u32>; // bits of the elements
@group(0) @binding(2) var<storage, read_write> y: array<i32>;

var<workgroup> keys: array<vec2u, ROWS * SIZE>; // (key, position)

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
  let first = (group.y * groups.x + group.x) * ROWS;
  for (var i = lane; i < ROWS * SIZE; i += WG) {
    let row = first + i / SIZE;
    let column = i % SIZE;
    var key = vec2u(0xffffffffu, column); // fills the row
    if (row < dims.rows && column < dims.cols) {
      key.x = order(x[row * dims.cols + column]);
      if (DESCENDING) { key.x = ~key.x; }
    }
    keys[i] = key;
  }
  for (var size = 2u; size <= SIZE; size *= 2u) {
    for (var step = size / 2u; step > 0u; step /= 2u) {
      workgroupBarrier();
      for (var i = lane; i < ROWS * SIZE / 2u; i += WG) {
        let low = i / step * step * 2u + i % step;
        let a = keys[low];
        let b = keys[low + step];
        let after = a.x > b.x || (a.x == b.x && a.y > b.y);
        let ascending = (low & size & (SIZE - 1u)) == 0u;
        if (after == ascending) {
          keys[low] = b;
          keys[low + step] = a;
        }
      }
    }
  }
  workgroupBarrier();
  for (var i = lane; i < ROWS * SIZE; i += WG) {
    let row = first + i / SIZE;
    let column = i % SIZE;
    if (row < dims.rows && column < dims.cols) { y[row * dims.cols + column] = i32(keys[i].y); }
  }
}
