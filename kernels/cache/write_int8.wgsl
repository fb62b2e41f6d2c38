// Writes rows into an int8 cache in place: each value becomes round(127 x / m), where m is the largest |x| of its row.
//
// Shapes: cache [B, H, S, D4 + 1] words, contiguous: four values each (zeros past D), then the bits of m;
//   value [B, H, T, D], strided; position i32, one or one per sample (p_b = 0 or 1).
// Grid: y * grid_x + x = groups of WG rows (b, h, t), one per invocation. Rows are dropped as in write_at.wgsl.
struct Dims {
  rows: u32, // B H T
  // shared: dims from write_at
  H: u32,
  S: u32,
  T: u32,
  D: u32,
  x_offset: u32, x_b: u32, x_h: u32, x_t: u32, x_d: u32,
  p_offset: u32, p_b: u32,
  first: u32, count: u32, // rows of the cache that are bound
  // end shared
  grid_x: u32,
}

const WG: u32 = 64u; // param: size of the workgroup

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> value: array<f32>;
@group(0) @binding(2) var<storage, read> position: array<i32>;
@group(0) @binding(3) var<storage, read_write> cache: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = (group.y * dims.grid_x + group.x) * WG + local;
  if (i >= dims.rows) { return; }
  let t = i % dims.T;
  let h = i / dims.T % dims.H;
  let b = i / dims.T / dims.H;
  let row = position[dims.p_offset + b * dims.p_b] + i32(t);
  if (row < 0 || row >= i32(dims.S)) { return; }
  let bound = (b * dims.H + h) * dims.S + u32(row) - dims.first; // wraps around if below `first`
  if (bound >= dims.count) { return; }
  let at = dims.x_offset + b * dims.x_b + h * dims.x_h + t * dims.x_t;
  var bits = 0; // NaN is the largest of all
  for (var d = 0u; d < dims.D; d++) { bits = max(bits, bitcast<i32>(abs(value[at + d * dims.x_d]))); }
  let largest = bitcast<f32>(bits);
  let words = (dims.D + 3u) / 4u;
  let to = bound * (words + 1u);
  let divisor = select(1.0, largest, largest > 0.0);
  for (var w = 0u; w < words; w++) {
    var x = vec4f();
    for (var j = 0u; j < 4u; j++) {
      let d = w * 4u + j;
      if (d < dims.D) { x[j] = value[at + d * dims.x_d] / divisor; }
    }
    cache[to + w] = pack4x8snorm(x);
  }
  cache[to + words] = bitcast<u32>(largest);
}
