// Writes rows into a cache in place: cache[b, h, position + t, :] = value[b, h, t, :].
//
// Shapes: cache [B, H, S, D], contiguous; value [B, H, T, D], strided; position i32, one or one per sample (p_b = 0 or 1).
//   All counts are 32-bit words: halves are written in pairs.
// Grid: x = groups of `rows` rows, y = heads, z = batch. The invocations lie along D, so that no index needs a division.
// Rows outside of the cache are dropped. If a binding holds only a part of the cache, so are those outside of its rows
// `first` to first + count - 1, counted over batch and heads.
struct Dims {
  // shared: dims
  H: u32,
  S: u32,
  T: u32,
  D: u32,
  x_offset: u32, x_b: u32, x_h: u32, x_t: u32, x_d: u32,
  p_offset: u32, p_b: u32,
  first: u32, count: u32, // rows of the cache that are bound
  // end shared
  rows: u32,
}

const WG: u32 = 64u; // param: size of the workgroup

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> value: array<u32>;
@group(0) @binding(2) var<storage, read> position: array<i32>;
@group(0) @binding(3) var<storage, read_write> cache: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let start = position[dims.p_offset + group.z * dims.p_b];
  let to = (group.z * dims.H + group.y) * dims.S;
  let from_ = dims.x_offset + group.z * dims.x_b + group.y * dims.x_h;
  let end = min((group.x + 1u) * dims.rows, dims.T);
  for (var t = group.x * dims.rows; t < end; t++) {
    let row = start + i32(t);
    if (row < 0 || row >= i32(dims.S)) { continue; }
    let bound = to + u32(row) - dims.first; // wraps around if below `first`
    if (bound >= dims.count) { continue; }
    for (var d = local; d < dims.D; d += WG) {
      cache[bound * dims.D + d] = value[from_ + t * dims.x_t + d * dims.x_d];
    }
  }
}
