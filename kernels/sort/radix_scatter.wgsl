// One pass of a radix sort, second half: elements move to the place of their digit. Equal digits keep their order.
//
// Paper: Satish et al. 2009. An invocation ranks ITEMS consecutive elements: after those of the same digit in the tile's
//   earlier invocations. A scan in workgroup memory counts these, for two digits in a word.
// Shapes: keys and positions [rows, cols], ends [rows, 16, tiles]: running sums of the counts of radix_count.wgsl.
// Grid: as in radix_count.wgsl.
const WG: u32 = 256u; // param: size of the workgroup
const ITEMS: u32 = 8u; // param: elements of an invocation; WG * ITEMS < 65536
const TYPE: u32 = 0u; // param: 0 = f32, 1 = i32, 2 = u32
const DESCENDING: bool = false; // param: the largest first
const FIRST: bool = true; // param: keys are the elements themselves, at their positions
const LAST: bool = false; // param: only positions are stored

// shared: radix from radix_count
struct Dims { rows: u32, cols: u32, tiles: u32, shift: u32, stretch: u32 } // shift: of the digit. stretch: elements of a serial tile

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
// end shared
// shared: moved
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read> ends: array<u32>;
@group(0) @binding(4) var<storage, read_write> keys_out: array<u32>;
@group(0) @binding(5) var<storage, read_write> positions_out: array<u32>;
// end shared

var<workgroup> counts: array<u32, 8 * WG>; // of digits 2 d and 2 d + 1 in invocation i at d * WG + i; then of all words before
var<workgroup> totals: array<u32, WG>;

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
// shared: put
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
  // shared: radix_tile from radix_count
  let id = group.y * groups.x + group.x;
  if (id >= dims.rows * dims.tiles) { return; }
  let row = id / dims.tiles;
  let tile = id % dims.tiles;
  // end shared
  let start = row * dims.cols;
  let begin = min((tile * WG + lane) * ITEMS, dims.cols);
  let end = min(begin + ITEMS, dims.cols);
  for (var d = 0u; d < 8u; d++) { counts[d * WG + lane] = 0u; }
  for (var c = begin; c < end; c++) {
    let digit = (key(start + c) >> dims.shift) & 15u;
    counts[digit / 2u * WG + lane] += 1u << (16u * (digit & 1u));
  }
  workgroupBarrier();
  var total = 0u;
  for (var i = 8u * lane; i < 8u * lane + 8u; i++) { total += counts[i]; }
  totals[lane] = total;
  for (var s = 1u; s < WG; s *= 2u) {
    workgroupBarrier();
    var before = 0u;
    if (lane >= s) { before = totals[lane - s]; }
    workgroupBarrier();
    totals[lane] += before;
  }
  var before = totals[lane] - total;
  for (var i = 8u * lane; i < 8u * lane + 8u; i++) {
    let own = counts[i];
    counts[i] = before;
    before += own;
  }
  workgroupBarrier();
  if (lane < 8u) { totals[lane] = counts[lane * WG]; } // before the digit's first invocation, which changes below
  workgroupBarrier();
  for (var c = begin; c < end; c++) {
    let k = key(start + c);
    let digit = (k >> dims.shift) & 15u;
    let half = 16u * (digit & 1u);
    let at = digit / 2u * WG + lane;
    let rank = ((counts[at] - totals[digit / 2u]) >> half) & 0xffffu;
    counts[at] += 1u << half;
    let place = digit * dims.tiles + tile;
    var first = 0u; // elements of smaller digits, and of this one in earlier tiles
    if (place > 0u) { first = ends[row * 16u * dims.tiles + place - 1u]; }
    put(start, c, first + rank, k);
  }
}
