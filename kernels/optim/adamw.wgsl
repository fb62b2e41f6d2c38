// One step of AdamW over flat vectors, in place.
//
// Paper: Loshchilov and Hutter 2019 (https://arxiv.org/abs/1711.05101), in torch's order: decay first.
// Shapes: p, m, v and the gradient g, f32 [n]. Buffers hold whole vec4f: the words past n are padding. `hyper` holds the 8
//   numbers that change from step to step.
// Grid: y * grid_x + x = groups of WG * PER vec4f; an invocation updates PER of them, WG apart.
const WG: u32 = 64u; // param: size of the workgroup
const PER: u32 = 4u; // param: vec4f per invocation

struct Dims { vectors: u32 } // ceil(n / 4)
struct Hyper { lr: f32, beta1: f32, beta2: f32, eps: f32, decay: f32, correction1: f32, correction2: f32, scale: f32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<vec4f>;
@group(0) @binding(2) var<storage, read> hyper: Hyper; // correction1, 2 = 1 - beta1, 2 ^ step; scale multiplies g (clipping)
@group(0) @binding(3) var<storage, read_write> p: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4f>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = hyper;
  let keep = 1.0 - h.lr * h.decay;
  let rate = h.lr / h.correction1;
  let root = inverseSqrt(h.correction2);
  let first = (group.y * groups.x + group.x) * WG * PER + lane;
  for (var at = first; at < min(first + WG * PER, dims.vectors); at += WG) {
    let grad = g[at] * h.scale;
    let m1 = h.beta1 * m[at] + (1.0 - h.beta1) * grad;
    let v1 = h.beta2 * v[at] + (1.0 - h.beta2) * grad * grad;
    m[at] = m1;
    v[at] = v1;
    p[at] = keep * p[at] - rate * (m1 / (sqrt(v1) * root + h.eps));
  }
}
