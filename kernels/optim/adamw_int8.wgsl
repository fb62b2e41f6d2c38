// One step of AdamW as in adamw.wgsl, with moments of 8 bits per parameter.
//
// Paper: Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization" (https://arxiv.org/abs/2110.02861): blocks of
// 256 parameters share a scale, the largest magnitude of the block.
// Shapes: p f32 [n]; m and v [n / 4] words of four codes; scales [blocks] of (m, sqrt(v)). All in place.
// Grid: y * grid_x + x = groups of WG / LANES blocks; LANES invocations share a block.
// Special: codes are logarithmic between octal digits and linear within. For c + 1 = 2^d (1 + f), value(c) =
//   8^(d - D) (1/8 + 7/8 f); c = 0 means 0. So 1 has a code, and small values keep digits. m has 7 bits and a sign. v is
//   stored as its square root in 8 bits, never rounded to 0, because the step divides by it. The update uses the moments
//   before rounding.
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per block, a power of two up to 64 that divides WG

struct Dims { vectors: u32, blocks: u32 } // n / 4, ceil(n / 256)
struct Hyper { lr: f32, beta1: f32, beta2: f32, eps: f32, decay: f32, correction1: f32, correction2: f32, scale: f32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<vec4f>;
@group(0) @binding(2) var<storage, read> hyper: Hyper;
@group(0) @binding(3) var<storage, read_write> p: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> m: array<u32>;
@group(0) @binding(5) var<storage, read_write> v: array<u32>;
@group(0) @binding(6) var<storage, read_write> scales: array<vec2f>;

const BLOCK: u32 = 64u; // vectors of a block
const SIGNED: u32 = 6u; // D of m: 7 bits of magnitude
const UNSIGNED: u32 = 7u; // D of sqrt(v)
var<workgroup> scratch: array<vec2f, WG>;

fn codes(word: u32) -> vec4u { return (vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u); }
fn word(codes: vec4u) -> u32 { return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u); }

// Values in [0, 1] of codes; the float c + 1 holds d in its exponent and f in its mantissa.
fn decode(c: vec4u, D: u32) -> vec4f {
  let bits = bitcast<vec4u>(vec4f(c + 1u));
  let f = bitcast<vec4f>((bits & vec4u(0x7fffffu)) | vec4u(0x3f800000u)) - 1.0;
  let d = (bits >> vec4u(23u)) - 127u;
  let power = bitcast<vec4f>((127u + 3u * d - 3u * D) << vec4u(23u)); // 8^(d - D)
  return select(power * (0.125 + 0.875 * f), vec4f(), c == vec4u());
}

// Nearest codes of values in [0, 1].
fn encode(x: vec4f, D: u32) -> vec4u {
  let e = (bitcast<vec4u>(x) >> vec4u(23u)) & vec4u(255u); // 127 for x = 1
  let lowest = 127u - 3u * (D + 1u);
  let d = (max(e, vec4u(lowest)) - lowest) / 3u; // x in [8^(d - D - 1), 8^(d - D))
  let y = x * bitcast<vec4f>((127u + 3u * D - 3u * d) << vec4u(23u)); // in [1/8, 1)
  let size = vec4u(1u) << d;
  let c = size - 1u + vec4u(max(round((y - 0.125) / 0.875 * vec4f(size)), vec4f()));
  return select(c, vec4u(), e < vec4u(lowest));
}

struct Moments { m: vec4f, root: vec4f } // root = sqrt(v)

fn moments(at: u32, old: vec2f, h: Hyper) -> Moments {
  let grad = g[at] * h.scale;
  let c = codes(m[at]);
  let size = decode(c & vec4u(127u), SIGNED) * old.x;
  let before = select(size, -size, c >= vec4u(128u));
  let root = decode(codes(v[at]), UNSIGNED) * old.y;
  return Moments(
    h.beta1 * before + (1.0 - h.beta1) * grad,
    sqrt(h.beta2 * root * root + (1.0 - h.beta2) * grad * grad),
  );
}

fn largest(x: vec4f) -> f32 { return max(max(x.x, x.y), max(x.z, x.w)); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = hyper;
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let block = min(wanted, dims.blocks - 1u); // surplus invocations repeat the last block: all must reach the barriers
  let begin = block * BLOCK;
  let end = select(begin, min(begin + BLOCK, dims.vectors), wanted == block);
  let first = begin + lane % LANES;
  let old = scales[block];

  var high = vec2f();
  for (var at = first; at < end; at += LANES) {
    let s = moments(at, old, h);
    high = max(high, vec2f(largest(abs(s.m)), largest(s.root)));
  }
  if (LANES > 1u) {
    scratch[lane] = high;
    for (var s = LANES / 2u; s > 0u; s /= 2u) {
      workgroupBarrier();
      if (lane % LANES < s) { scratch[lane] = max(scratch[lane], scratch[lane + s]); }
    }
    workgroupBarrier();
    high = scratch[lane / LANES * LANES];
  }

  let inverse = 1.0 / max(high, vec2f(1e-37)); // finite for blocks of zeros
  let keep = 1.0 - h.lr * h.decay;
  let rate = h.lr / h.correction1;
  let root = inverseSqrt(h.correction2);
  for (var at = first; at < end; at += LANES) {
    let s = moments(at, old, h);
    p[at] = keep * p[at] - rate * (s.m / (s.root * root + h.eps));
    let negative = select(vec4u(), vec4u(128u), s.m < vec4f());
    m[at] = word(encode(min(abs(s.m) * inverse.x, vec4f(1.0)), SIGNED) | negative);
    let c = encode(min(s.root * inverse.y, vec4f(1.0)), UNSIGNED);
    v[at] = word(select(c, vec4u(1u), (c == vec4u()) & (s.root > vec4f())));
  }
  if (lane % LANES == 0u && wanted == block) { scales[block] = high; }
}
