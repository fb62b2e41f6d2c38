// One pass of a radix sort, first half: how often each digit occurs in each tile of a row.
//
// Paper: Satish et al. 2009, digits of four bits, the lowest first.
// Shapes: keys [rows, cols], counts [rows, 16, tiles]. Grid: y * grid_x + x = row * tiles + tile, tiles of WG * ITEMS elements.
const WG: u32 = 256u; // param: size of the workgroup
const ITEMS: u32 = 8u; // param: elements of an invocation
const TYPE: u32 = 0u; // param: 0 = f32, 1 = i32, 2 = u32
const DESCENDING: bool = false; // param: the largest first
const FIRST: bool = true; // param: keys are the elements themselves; later passes read keys

// shared: radix
struct Dims { rows: u32, cols: u32, tiles: u32, shift: u32, stretch: u32 } // shift: of the digit. stretch: elements of a serial tile

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
// end shared
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

var<workgroup> digits: array<atomic<u32>, 16>;

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
// shared: key
fn key(at: u32) -> u32 {
  let bits = keys[at];
  if (!FIRST) { return bits; }
  return select(order(bits), ~order(bits), DESCENDING);
}
// end shared

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  // shared: radix_tile
  let id = group.y * groups.x + group.x;
  if (id >= dims.rows * dims.tiles) { return; }
  let row = id / dims.tiles;
  let tile = id % dims.tiles;
  // end shared
  for (var i = 0u; i < ITEMS; i++) {
    let column = (tile * ITEMS + i) * WG + lane;
    if (column < dims.cols) { atomicAdd(&digits[(key(row * dims.cols + column) >> dims.shift) & 15u], 1u); }
  }
  workgroupBarrier();
  if (lane < 16u) { counts[(row * 16u + lane) * dims.tiles + tile] = atomicLoad(&digits[lane]); }
}
