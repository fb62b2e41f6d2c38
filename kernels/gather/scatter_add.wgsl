// The transpose of gather: out = x, then out[…, index[…, j, …], …] += source[…, j, …] along one dim. Other modes multiply, or
// take the maximum or minimum; there NaN wins, which is tested by bits.
//
// Shapes: out as x; index and source have one shape, whose other dims may be smaller than those of x.
// Grid: y * grid_x + x = groups of WG lines of out along the dim, one line per invocation, which adds in the order of j:
//   repeats add up in a fixed order. Ids out of range are skipped.
const WG: u32 = 64u; // param: size of the workgroup
const MODE: u32 = 0u; // param: 0 sum, 1 product, 2 maximum, 3 minimum
const FLOAT: bool = true; // param: T is f32
alias T = f32; // param: also i32, u32

// Up to six other dims, slowest first, padded with 1: size in x and in index, strides in x and in index.
struct Dim { size: u32, count: u32, x_stride: u32, index_stride: u32 }
struct Dims { lines: u32, size: u32, count: u32, x_stride: u32, index_stride: u32, pad0: u32, pad1: u32, pad2: u32, others: array<Dim, 6> }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read> source: array<T>;
@group(0) @binding(4) var<storage, read_write> out: array<T>;

fn is_nan(v: T) -> bool { return FLOAT && (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }

fn combine(a: T, b: T) -> T {
  if (MODE == 0u) { return a + b; }
  if (MODE == 1u) { return a * b; }
  let above = b > a;
  let below = b < a;
  return select(a, b, !is_nan(a) && (select(below, above, MODE == 2u) || is_nan(b)));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  var line = (group.y * groups.x + group.x) * WG + lane;
  if (line >= dims.lines) { return; }
  var at = 0u;
  var from_ = 0u;
  var inside = true;
  for (var d = 6u; d > 0u; d--) {
    let other = dims.others[d - 1u];
    let i = line % other.size;
    line /= other.size;
    at += i * other.x_stride;
    from_ += i * other.index_stride;
    inside = inside && i < other.count;
  }
  for (var i = 0u; i < dims.size; i++) { out[at + i * dims.x_stride] = x[at + i * dims.x_stride]; }
  if (!inside) { return; }
  for (var j = 0u; j < dims.count; j++) {
    let id = index[from_ + j * dims.index_stride];
    if (id < dims.size) { out[at + id * dims.x_stride] = combine(out[at + id * dims.x_stride], source[from_ + j * dims.index_stride]); }
  }
}
