// First kernel of the attention backward: the statistics of every query row that dq and dk/dv need.
//
// Paper: FlashAttention-2 (https://arxiv.org/abs/2307.08691), section 3.1, algorithm 2, line 4.
// Shapes: saved [B, H, T, 2] (top, 1 / sum), contiguous; o and g = dO [B, H, T, D], strided, stride 1 along D;
//   stats [B, H, T, 4] = top, 1 / sum, rowsum(dO · o), number of keys of the sample.
// Grid: x = groups of ROWS rows, one per invocation, y = heads, z = batch.
// One buffer holds all four, so that the kernels that read it bind at most 8. A row that saw no key has 1 / sum = 0, hence
// zero weights.
struct Dims {
  T: u32,
  S: u32,
  D: u32,
  g_offset: u32, g_b: u32, g_h: u32, g_t: u32,
  o_b: u32, o_h: u32, o_t: u32,
}

const ROWS: u32 = 64u; // param: size of the workgroup
const LAYOUT: u32 = 0u; // param: 0 strides from dims; 1, 2: o and g contiguous, as [B, H, T, D] or [B, T, H, D]
const LENGTHS: bool = true; // param: samples have lengths

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> o: array<f32>;
@group(0) @binding(2) var<storage, read> saved: array<vec2f>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read> lengths: array<i32>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec4f>;

@compute @workgroup_size(ROWS)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let T = dims.T;
  let D = dims.D;
  let H = groups.y;
  let h = group.y;
  let b = group.z;
  let t = group.x * ROWS + lane;
  if (t >= T) { return; }
  var length = dims.S;
  if (LENGTHS) { length = min(u32(max(lengths[b], 0)), dims.S); }
  let row = (b * H + h) * T + t;
  var at = row * D;
  if (LAYOUT == 2u) { at = ((b * T + t) * H + h) * D; }
  var o_at = at;
  if (LAYOUT == 0u) {
    at = dims.g_offset + b * dims.g_b + h * dims.g_h + t * dims.g_t;
    o_at = b * dims.o_b + h * dims.o_h + t * dims.o_t;
  }
  var sums = vec4f(); // four chains of additions round less than one
  for (var d = 0u; d < D; d++) { sums[d % 4u] += o[o_at + d] * g[at + d]; }
  stats[row] = vec4f(saved[row], (sums.x + sums.y) + (sums.z + sums.w), f32(length));
}
