// Rotary position embedding: rotates the pairs (i, i + D/2) of a row by position · frequency[i].
//
// Paper: RoFormer (https://arxiv.org/abs/2104.09864), in the half-split order of Hugging Face.
// Shapes: x [B, H, T, D], strided; positions i32 [T] or [B, T] (strides, 0 = shared); frequency [D / 2];
//   y [B, H, T, D], strided, stride 1 along D.
// Grid: x (and z beyond its limit) = groups of WG triples (b, t, i), y = chunks of heads, which share the angle.
// Special: an f32 product of position and frequency is off by 1e-4 rad from a few thousand positions on, and a driver's sin
//   by 2^-11. So the frequency becomes revolutions in 64-bit fixed point, where overflow is the reduction modulo 2 pi: exact
//   for every i32 position. Sine and cosine are polynomials on an eighth of a revolution (error 4e-8 before rounding).
struct Dims {
  total: u32, // B T D / 2
  H: u32,
  T: u32,
  half: u32, // D / 2
  heads: u32, // per chunk
  x_offset: u32, x_b: u32, x_h: u32, x_t: u32, x_d: u32,
  p_offset: u32, p_b: u32, p_t: u32,
  y_b: u32, y_h: u32, y_t: u32,
  grid_x: u32,
  inverse: u32, // 1 rotates back (the gradient)
}

const WG: u32 = 64u; // param: size of the workgroup

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> positions: array<i32>;
@group(0) @binding(3) var<storage, read> frequency: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

/// 64-bit product, high word first.
fn wide(a: u32, b: u32) -> vec2u {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let mid1 = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let mid2 = (a & 0xffffu) * (b >> 16u) + (mid1 & 0xffffu);
  return vec2u((a >> 16u) * (b >> 16u) + (mid1 >> 16u) + (mid2 >> 16u), (mid2 << 16u) | (low & 0xffffu));
}

/// f / (2 pi) modulo 1, for positive f, in units of 2^-64, high word first.
fn revolutions(f: f32) -> vec2u {
  let bits = bitcast<u32>(f);
  let mantissa = (bits & 0x7fffffu) | 0x800000u;
  let shift = 150u - ((bits >> 23u) & 255u); // f = mantissa 2^-shift
  // mantissa / (2 pi) in units of 2^-64: three words, lowest first.
  let low = wide(mantissa, 0x9391054au);
  let high = wide(mantissa, 0x28be60dbu);
  let middle = low.x + high.y;
  var w = vec3u(low.y, middle, high.x + select(0u, 1u, middle < low.x));
  if (shift >= 96u) { w = vec3u(); } else if (shift >= 64u) { w = vec3u(w.z, 0u, 0u); } else if (shift >= 32u) { w = vec3u(w.y, w.z, 0u); }
  let r = shift & 31u;
  if (r == 0u) { return w.yx; }
  return vec2u((w.y >> r) | (w.z << (32u - r)), (w.x >> r) | (w.y << (32u - r)));
}

/// cos and sin of position * f.
fn rotation(position: i32, f: f32) -> vec2f {
  let step = revolutions(abs(f));
  let count = u32(abs(position));
  var phase = count * step.x + wide(count, step.y).x; // revolutions modulo 1, in units of 2^-32
  if ((position < 0) != (f < 0.0)) { phase = 0u - phase; }
  let quarter = (phase + 0x20000000u) >> 30u;
  let a = f32(bitcast<i32>(phase - (quarter << 30u))) * 1.4629180792671596e-9; // 2 pi / 2^32: |a| <= pi / 4
  let z = a * a;
  let s = a + a * z * (-1.6666654611e-1 + z * (8.3321608736e-3 + z * -1.9515295891e-4));
  let c = 1.0 - 0.5 * z + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5));
  switch quarter & 3u {
    case 1u: { return vec2f(-s, c); }
    case 2u: { return vec2f(-c, -s); }
    case 3u: { return vec2f(s, -c); }
    default: { return vec2f(c, s); }
  }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let index = (group.z * dims.grid_x + group.x) * WG + local;
  if (index >= dims.total) { return; }
  let i = index % dims.half;
  let t = index / dims.half % dims.T;
  let b = index / dims.half / dims.T;
  var cos_sin = rotation(positions[dims.p_offset + b * dims.p_b + t * dims.p_t], frequency[i]); // cos, sin
  if (dims.inverse != 0u) { cos_sin.y = -cos_sin.y; }
  let end = min((group.y + 1u) * dims.heads, dims.H);
  for (var h = group.y * dims.heads; h < end; h++) {
    let at = dims.x_offset + b * dims.x_b + h * dims.x_h + t * dims.x_t + i * dims.x_d;
    let first = x[at];
    let second = x[at + dims.half * dims.x_d];
    let out = b * dims.y_b + h * dims.y_h + t * dims.y_t + i;
    y[out] = first * cos_sin.x - second * cos_sin.y;
    y[out + dims.half] = second * cos_sin.x + first * cos_sin.y;
  }
}
