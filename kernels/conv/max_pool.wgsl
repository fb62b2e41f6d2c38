// Position of the largest element of each window, among the spatial elements of its channel. The first of equal elements wins,
// the last NaN wins over all.
//
// Shapes: x [planes, n0, n1, n2], y i32 [planes, m0, m1, m2]; fewer spatial dims have leading sizes of 1.
// Grid: y * grid_x + x = groups of WG outputs.
const WG: u32 = 64u; // param: size of the workgroup
const ADAPTIVE: bool = false; // param: windows reach from floor(i n / m) to ceil((i + 1) n / m)

// Sizes of x and of y; then elements of a window, their distance, the distance of windows, and the padding before x.
struct Dims {
  total: u32, n0: u32, n1: u32, n2: u32, m0: u32, m1: u32, m2: u32,
  k0: u32, k1: u32, k2: u32, dilation0: u32, dilation1: u32, dilation2: u32,
  stride0: u32, stride1: u32, stride2: u32, pad0: u32, pad1: u32, pad2: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<i32>;

// First position and end of window `i` along a dim of n elements and m windows.
fn reach(i: u32, n: u32, m: u32, k: u32, dilation: u32, stride: u32, pad: u32) -> vec2u {
  if (ADAPTIVE) { return vec2u(i * n / m, ((i + 1u) * n + m - 1u) / m); }
  let begin = i * stride;
  let end = min(begin + (k - 1u) * dilation + 1u, n + pad) - pad;
  let before = pad - min(begin, pad); // elements before x
  return vec2u(max(begin, pad) - pad + select(0u, (dilation - before % dilation) % dilation, before > 0u), end);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.y * groups.x + group.x) * WG + lane;
  if (at >= dims.total) { return; }
  let a = reach(at / dims.m2 / dims.m1 % dims.m0, dims.n0, dims.m0, dims.k0, dims.dilation0, dims.stride0, dims.pad0);
  let b = reach(at / dims.m2 % dims.m1, dims.n1, dims.m1, dims.k1, dims.dilation1, dims.stride1, dims.pad1);
  let c = reach(at % dims.m2, dims.n2, dims.m2, dims.k2, dims.dilation2, dims.stride2, dims.pad2);
  let plane = at / dims.m2 / dims.m1 / dims.m0 * dims.n0 * dims.n1 * dims.n2;
  var best = (a.x * dims.n1 + b.x) * dims.n2 + c.x;
  var most = bitcast<f32>(0xff800000u + (at >> 31u)); // -∞ by its bits, which are no constant
  for (var i = a.x; i < a.y; i += dims.dilation0) {
    for (var j = b.x; j < b.y; j += dims.dilation1) {
      let row = (i * dims.n1 + j) * dims.n2;
      for (var k = c.x; k < c.y; k += dims.dilation2) {
        let value = x[plane + row + k];
        if (value > most || (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u) {
          most = value;
          best = row + k;
        }
      }
    }
  }
  y[at] = i32(best);
}
