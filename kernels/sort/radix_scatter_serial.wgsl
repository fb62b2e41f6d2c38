// radix_scatter.wgsl for software adapters: an invocation moves the elements of its tile one by one.
//
// Shapes: keys and positions [rows, cols], ends and cursors [rows, DIGITS, tiles].
// Grid: as in radix_count_serial.wgsl.
const WG: u32 = 8u; // param: size of the workgroup
const DIGITS: u32 = 256u; // param: a power of two
const TYPE: u32 = 0u; // param: 0 = f32, 1 = i32, 2 = u32
const DESCENDING: bool = false; // param: the largest first
const FIRST: bool = true; // param: keys are the elements themselves, at their positions
const LAST: bool = false; // param: only positions are stored

// shared: radix from radix_count
struct Dims { rows: u32, cols: u32, tiles: u32, shift: u32, stretch: u32 } // shift: of the digit. stretch: elements of a serial tile

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
// end shared
// shared: moved from radix_scatter
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read> ends: array<u32>;
@group(0) @binding(4) var<storage, read_write> keys_out: array<u32>;
@group(0) @binding(5) var<storage, read_write> positions_out: array<u32>;
// end shared
@group(0) @binding(6) var<storage, read_write> cursors: array<u32>; // where the next element of each digit goes

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
// shared: put from radix_scatter
// Stores element `column` of a row as number `to` of the sorted row.
fn put(start: u32, column: u32, to: u32, k: u32) {
  var position = column;
  if (!FIRST) { position = positions[start + column]; }
  if (!LAST) { keys_out[start + to] = k; }
  positions_out[start + to] = position;
}
// end shared

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  // shared: serial_tile from radix_count_serial
  let id = (group.y * groups.x + group.x) * WG + lane;
  if (id >= dims.rows * dims.tiles) { return; }
  let row = id / dims.tiles;
  let tile = id % dims.tiles;
  let start = row * dims.cols;
  let begin = min(tile * dims.stretch, dims.cols);
  let end = min(begin + dims.stretch, dims.cols);
  let first = row * DIGITS * dims.tiles + tile; // of the tile's digits
  // end shared
  for (var d = 0u; d < DIGITS; d++) {
    var cursor = 0u;
    if (d + tile > 0u) { cursor = ends[first + d * dims.tiles - 1u]; }
    cursors[first + d * dims.tiles] = cursor;
  }
  for (var c = begin; c < end; c++) {
    let k = key(start + c);
    let place = first + ((k >> dims.shift) & (DIGITS - 1u)) * dims.tiles;
    let to = cursors[place];
    cursors[place] = to + 1u;
    put(start, c, to, k);
  }
}
