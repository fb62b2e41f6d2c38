// radix_count.wgsl for software adapters: eight bits a digit, or four in short rows, one invocation per tile, no barrier.
//
// Shapes: keys [rows, cols], counts [rows, DIGITS, tiles]. Grid: y * grid_x + x = groups of WG tiles of `stretch` elements.
const WG: u32 = 8u; // param: size of the workgroup
const DIGITS: u32 = 256u; // param: a power of two
const TYPE: u32 = 0u; // param: 0 = f32, 1 = i32, 2 = u32
const DESCENDING: bool = false; // param: the largest first
const FIRST: bool = true; // param: keys are the elements themselves; later passes read keys

// shared: radix from radix_count
struct Dims { rows: u32, cols: u32, tiles: u32, shift: u32, stretch: u32 } // shift: of the digit. stretch: elements of a serial tile

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
// end shared
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

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
// shared: key from radix_count
fn key(at: u32) -> u32 {
  let bits = keys[at];
  if (!FIRST) { return bits; }
  return select(order(bits), ~order(bits), DESCENDING);
}
// end shared

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  // shared: serial_tile
  let id = (group.y * groups.x + group.x) * WG + lane;
  if (id >= dims.rows * dims.tiles) { return; }
  let row = id / dims.tiles;
  let tile = id % dims.tiles;
  let start = row * dims.cols;
  let begin = min(tile * dims.stretch, dims.cols);
  let end = min(begin + dims.stretch, dims.cols);
  let first = row * DIGITS * dims.tiles + tile; // of the tile's digits
  // end shared
  for (var d = 0u; d < DIGITS; d++) { counts[first + d * dims.tiles] = 0u; }
  for (var c = begin; c < end; c++) {
    let digit = (key(start + c) >> dims.shift) & (DIGITS - 1u);
    counts[first + digit * dims.tiles] += 1u;
  }
}
