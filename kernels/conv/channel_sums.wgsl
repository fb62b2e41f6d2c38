// Sums over the samples and positions of each channel, for batch normalisation. Either mean and variance (divisor n) of x, or with
// BACKWARD the gradients of bias and weight, Σ g and Σ g · (x - mean) · inverse.
//
// Paper: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
// Shapes: x and g [samples, channels, positions]; all others [channels]. Grid: y * grid_x + x = channel.
// Special: the variance takes a pass of its own, because one-pass forms lose digits when the mean is large. Each sample is added
//   up on its own, which keeps rounding errors small.
const WG: u32 = 64u; // param: size of the workgroup, a power of two
const WIDTH: u32 = 1u; // param: positions of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f when the positions are a multiple of 4
const BACKWARD: bool = false; // param: what is computed

struct Dims { channels: u32, samples: u32, vectors: u32 } // vectors = positions / WIDTH

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> g: array<V>; // without BACKWARD these three are not read
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> inverse: array<f32>;
@group(0) @binding(5) var<storage, read_write> first: array<f32>; // mean, or the gradient of the bias
@group(0) @binding(6) var<storage, read_write> second: array<f32>; // variance, or the gradient of the weight

var<workgroup> partial: array<vec2f, WG>;

fn horizontal(v: V) -> f32 {
  let w = vec4f(v);
  return select(w.x, (w.x + w.y) + (w.z + w.w), WIDTH == 4u);
}

// Sums of both values over the workgroup.
fn together(a: V, b: V, lane: u32) -> vec2f {
  partial[lane] = vec2f(horizontal(a), horizontal(b));
  for (var apart = WG / 2u; apart > 0u; apart /= 2u) {
    workgroupBarrier();
    if (lane < apart) { partial[lane] += partial[lane + apart]; }
  }
  workgroupBarrier();
  let sums = partial[0];
  workgroupBarrier();
  return sums;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let channel = group.y * groups.x + group.x;
  if (channel >= dims.channels) { return; }
  var centre = 0.0;
  if (BACKWARD) { centre = mean[channel]; }
  var a = V();
  var b = V();
  for (var n = 0u; n < dims.samples; n++) {
    let start = (n * dims.channels + channel) * dims.vectors;
    var a_n = V();
    var b_n = V();
    for (var i = start + lane; i < start + dims.vectors; i += WG) {
      if (BACKWARD) {
        a_n += g[i];
        b_n += g[i] * (x[i] - centre);
      } else {
        a_n += x[i];
      }
    }
    a += a_n;
    b += b_n;
  }
  var sums = together(a, b, lane);
  if (BACKWARD) {
    sums.y *= inverse[channel];
  } else {
    let count = f32(dims.samples) * f32(dims.vectors * WIDTH);
    sums.x /= count;
    b = V();
    for (var n = 0u; n < dims.samples; n++) {
      let start = (n * dims.channels + channel) * dims.vectors;
      var b_n = V();
      for (var i = start + lane; i < start + dims.vectors; i += WG) {
        let v = x[i] - sums.x;
        b_n += v * v;
      }
      b += b_n;
    }
    sums.y = together(V(), b, lane).y / count;
  }
  if (lane == 0u) {
    first[channel] = sums.x;
    second[channel] = sums.y;
  }
}
