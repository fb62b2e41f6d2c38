// Rounds rows to int8, each group of neighbours with a scale of its own: codes[m, k] = round(x[m, k] / scale), scale = the largest
// |x| of the group / 127 (activations of products in integers, as LLM.int8() [https://arxiv.org/abs/2208.07339] and the Q8_0
// blocks of llama.cpp round them).
//
// codes [M, groups * group / 4] words of four, zeros from K on; scales [M, groups].
// Grid: one lane a group, y * grid_x + x.
const WG: u32 = 64u; // param
const VEC: bool = false; // param: K is a multiple of 4
alias X = f32; // param: vec4f with VEC

struct Dims {
  M: u32, K: u32, groups: u32, words: u32, // words of four codes in a group
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

// One value, and four from a multiple of 4 on. May be replaced to compute them.
fn x_1(at: u32) -> f32 { // hook
  return vec4f(x[at]).x;
}
fn x_4(at: u32) -> vec4f { // hook
  return vec4f(x[at / 4u]);
}

// Four values from k on, 0 from K on.
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
  var most = vec4f();
  for (var w = 0u; w < dims.words; w++) { most = max(most, abs(load(row, first + w * 4u))); }
  let scale = max(max(most.x, most.y), max(most.z, most.w)) / 127.0;
  let steps = select(0.0, 1.0 / scale, scale > 0.0);
  for (var w = 0u; w < dims.words; w++) {
    let code = vec4u(vec4i(clamp(round(load(row, first + w * 4u) * steps), vec4f(-127.0), vec4f(127.0)))) & vec4u(255u);
    codes[i * dims.words + w] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
  }
  scales[i] = scale;
}
