// Rounds rows to int8, with one scale per group of neighbours: codes[m, k] = round(x[m, k] / scale), where scale is the
// largest |x| of the group / 127.
//
// Source: activations of LLM.int8() (https://arxiv.org/abs/2208.07339), blocks as Q8_0 of llama.cpp.
// Shapes: x [M, K]; codes [M, groups * words], four codes per word, zeros from K on; scales [M, groups].
// Grid: y * grid_x + x = groups of WG scale groups, one per invocation.
const WG: u32 = 64u; // param: size of the workgroup
const VEC: bool = false; // param: read x by vec4f: K is a multiple of 4
alias X = f32; // param: element type of `x`: vec4f with VEC

struct Dims {
  M: u32, K: u32, groups: u32, words: u32, // words: of a group, four codes each
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

// One value, and four from a multiple of 4 on. Lowerings put formats here (halves), the compiler prologues.
fn x_1(at: u32) -> f32 { // hook
  return vec4f(x[at]).x;
}
fn x_4(at: u32) -> vec4f { // hook
  return vec4f(x[at / 4u]);
}

// Four values from `k` on, 0 from K on.
fn load(row: u32, k: u32) -> vec4f {
  let at = row * dims.K + min(k, dims.K - 1u);
  if (VEC) { return select(vec4f(), x_4(at), k < dims.K); }
  let exists = vec4u(k) + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.K);
  return select(vec4f(), vec4f(x_1(at), x_1(at + 1u), x_1(at + 2u), x_1(at + 3u)), exists);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WG + lane;
  if (i >= dims.M * dims.groups) { return; }
  let row = i / dims.groups;
  let first = i % dims.groups * dims.words * 4u;
  var most = vec4i(); // bits: NaN is the largest of all
  for (var w = 0u; w < dims.words; w++) { most = max(most, bitcast<vec4i>(abs(load(row, first + w * 4u)))); }
  let scale = bitcast<f32>(max(max(most.x, most.y), max(most.z, most.w))) / 127.0;
  let steps = select(0.0, 1.0 / scale, scale > 0.0);
  for (var w = 0u; w < dims.words; w++) {
    let code = vec4u(vec4i(clamp(round(load(row, first + w * 4u) * steps), vec4f(-127.0), vec4f(127.0)))) & vec4u(255u);
    codes[i * dims.words + w] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
  }
  scales[i] = scale;
}
