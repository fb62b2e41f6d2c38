// First kernel of the attention backward: for every query row its log-sum-exp in powers of 2 and D = rowsum(dO * O).
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691), section 3.1, algorithm 2, line 4.
// Layout: o [B, H, T, D] and lse [B, H, T] contiguous, dO [B, H, T, D] strided (unit stride along D);
// stats [B * H * T, 2], then the lengths [B] as floats: one buffer, so that the two kernels that follow bind at most 8.
// Grid: x, y = rows in groups of ROWS, one lane per row. A row that saw no key gets a huge log-sum-exp, hence zero weights.
struct Dims {
  H: u32,
  T: u32,
  S: u32,
  D: u32,
  rows: u32, // B H T
  batch: u32,
  has_lengths: u32,
  g_offset: u32, g_b: u32, g_h: u32, g_t: u32,
  grid_x: u32,
}

const ROWS: u32 = 64u; // param

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> o: array<f32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read> lengths: array<i32>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (group.y * dims.grid_x + group.x) * ROWS + lane;
  if (row < dims.batch) {
    var length = dims.S;
    if (dims.has_lengths != 0u) { length = min(u32(max(lengths[row], 0)), dims.S); }
    stats[dims.rows * 2u + row] = f32(length);
  }
  if (row >= dims.rows) { return; }
  let at = dims.g_offset + row / (dims.H * dims.T) * dims.g_b + row / dims.T % dims.H * dims.g_h + row % dims.T * dims.g_t;
  var sum = 0.0;
  for (var d = 0u; d < dims.D; d++) { sum += o[row * dims.D + d] * g[at + d]; }
  stats[row * 2u] = select(3.0e38, lse[row], lse[row] > -3.0e38);
  stats[row * 2u + 1u] = sum;
}
