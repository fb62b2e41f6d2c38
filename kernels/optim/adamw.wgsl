// One step of AdamW (Loshchilov and Hutter 2019, torch's order: decay first) over flat vectors, in place:
// p, m, v and the gradient g are f32 [n], the numbers that change from step to step come in a buffer of 8 words.
// A lane does PER vec4f of each vector, WG vectors apart. Buffers hold whole vec4f: the words beyond n are padding.
const WG: u32 = 64u; // param
const PER: u32 = 4u; // param: vec4f a lane

struct Dims { vectors: u32 } // ceil(n / 4)
struct Hyper { lr: f32, beta1: f32, beta2: f32, eps: f32, decay: f32, correction1: f32, correction2: f32, scale: f32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<vec4f>;
@group(0) @binding(2) var<storage, read> hyper: Hyper; // corrections are 1 - beta^t, scale multiplies g (clipping)
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
