// Batched vector times transposed matrix: c[batch, n] = sum over k of a[batch, k] * b[batch, n, k], b with stride 1 along k
// (decoding with weights stored [N, K], as nn.Linear does). One subgroup computes four columns: its lanes lie along k,
// so that every row of b is read in whole lines, and subgroupAdd gathers the four sums.
// Grid: column quads along x (and y beyond its limit), batch along z.
enable subgroups;

const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const VEC: bool = false; // param: K, offsets and strides are multiples of 4: both sides are read four at a time
alias A = f32; // param: what a_1 or, with VEC, a_4 reads: vec4f
alias B = f32; // param: the same of b

struct Dims {
  N: u32, K: u32, batches: u32, size_1: u32, size_2: u32, // batch = (i0 * size_1 + i1) * size_2 + i2
  a_offset: u32, a_0: u32, a_1: u32, a_2: u32, a_k: u32,
  b_offset: u32, b_0: u32, b_1: u32, b_2: u32, b_n: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

const STEP: u32 = select(1u, 4u, VEC);

// `i` = batch, row (0), first column. Columns from N on are dropped afterwards.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}

// One element, and four from a multiple of 4 on, as in matmul.wgsl.
fn a_1(at: u32) -> f32 { // hook
  return vec4f(a[at]).x;
}
fn a_4(at: u32) -> vec4f { // hook
  return vec4f(a[at / 4u]);
}
fn b_1(at: u32) -> f32 { // hook
  return vec4f(b[at]).x;
}
fn b_4(at: u32) -> vec4f { // hook
  return vec4f(b[at / 4u]);
}

// With VEC four values, else one in x.
fn load_a(at: u32) -> vec4f {
  if (VEC) { return a_4(at); }
  return vec4f(a_1(at), 0.0, 0.0, 0.0);
}
fn load_b(at: u32) -> vec4f {
  if (VEC) { return b_4(at); }
  return vec4f(b_1(at), 0.0, 0.0, 0.0);
}

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let column = (group.y * groups.x + group.x) * 4u;
  if (column >= dims.N) { return; }
  for (var batch = group.z; batch < dims.batches; batch += groups.z) {
    let i = vec3u(batch / dims.size_2 / dims.size_1, batch / dims.size_2 % dims.size_1, batch % dims.size_2);
    let x = dims.a_offset + i.x * dims.a_0 + i.y * dims.a_1 + i.z * dims.a_2;
    let rows = min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(dims.N - 1u)) * dims.b_n
      + dims.b_offset + i.x * dims.b_0 + i.y * dims.b_1 + i.z * dims.b_2;
    var s0 = vec4f();
    var s1 = vec4f();
    var s2 = vec4f();
    var s3 = vec4f();
    for (var k = lane * STEP; k < dims.K; k += SG * STEP) {
      let v = load_a(x + k * dims.a_k);
      s0 += v * load_b(rows.x + k);
      s1 += v * load_b(rows.y + k);
      s2 += v * load_b(rows.z + k);
      s3 += v * load_b(rows.w + k);
    }
    let ones = vec4f(1.0);
    let sums = subgroupAdd(vec4f(dot(s0, ones), dot(s1, ones), dot(s2, ones), dot(s3, ones)));
    if (lane == 0u) {
      let v = epilogue(sums, vec3u(batch, 0u, column));
      let at = batch * dims.N + column;
      c[at] = v.x;
      if (column + 1u < dims.N) { c[at + 1u] = v.y; }
      if (column + 2u < dims.N) { c[at + 2u] = v.z; }
      if (column + 3u < dims.N) { c[at + 3u] = v.w; }
    }
  }
}
