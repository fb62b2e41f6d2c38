// Few rows times a transposed matrix: c[batch, m, n] = sum over k of a[batch, m, k] b[batch, n, k]. This is decoding with
// weights stored as [N, K], as nn.Linear does.
//
// Shapes: a [batch, M, K], strided; b [batch, N, K], stride 1 along k; c [batch, M, N], contiguous.
// Grid: x (and y beyond its limit) = blocks of COLUMNS columns, z = batch.
// Special: a subgroup computes COLUMNS columns of all rows. Its lanes lie along k, so that it reads each row of b in whole
//   cache lines, once for all rows of a; subgroupAdd adds up the lanes.
// Caution: needs a subgroup size of exactly SG.
enable subgroups;

const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const TM: u32 = 1u; // param: rows of a: at least M
const COLUMNS: u32 = 4u; // param: columns of a subgroup, a multiple of 4
const VEC: bool = false; // param: read both sides by vec4f: K, offsets and strides are multiples of 4
alias A = f32; // param: element type of `a`, which a_1 or, with VEC, a_4 reads: vec4f
alias B = f32; // param: element type of `b`, the same

struct Dims {
  M: u32, N: u32, K: u32, batches: u32, size_1: u32, size_2: u32, // batch = (i0 * size_1 + i1) * size_2 + i2
  a_offset: u32, a_0: u32, a_1: u32, a_2: u32, a_m: u32, a_k: u32,
  b_offset: u32, b_0: u32, b_1: u32, b_2: u32, b_n: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

const STEP: u32 = select(1u, 4u, VEC);

// shared: epilogue from matmul
// Four columns of C at `i` = batch, row, first column, with the elementwise ops that follow. Columns from N on are dropped.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}
// end shared

// shared: operands from matmul
// One element, and four from a multiple of 4 on. Lowerings put formats here (halves, packed weights), the compiler prologues.
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
// end shared

// Four values with VEC, else one in x.
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
  let column = (group.y * groups.x + group.x) * COLUMNS;
  if (column >= dims.N) { return; }
  for (var batch = group.z; batch < dims.batches; batch += groups.z) {
    let i = vec3u(batch / dims.size_2 / dims.size_1, batch / dims.size_2 % dims.size_1, batch % dims.size_2);
    var rows = array<u32, TM>();
    for (var m = 0u; m < TM; m++) {
      rows[m] = dims.a_offset + i.x * dims.a_0 + i.y * dims.a_1 + i.z * dims.a_2 + min(m, dims.M - 1u) * dims.a_m;
    }
    var columns = array<u32, COLUMNS>();
    for (var n = 0u; n < COLUMNS; n++) {
      columns[n] = dims.b_offset + i.x * dims.b_0 + i.y * dims.b_1 + i.z * dims.b_2 + min(column + n, dims.N - 1u) * dims.b_n;
    }
    var sums = array<f32, TM * COLUMNS>();
    for (var k = lane * STEP; k < dims.K; k += SG * STEP) {
      var x = array<vec4f, TM>();
      for (var m = 0u; m < TM; m++) { x[m] = load_a(rows[m] + k * dims.a_k); }
      for (var n = 0u; n < COLUMNS; n++) {
        let w = load_b(columns[n] + k);
        for (var m = 0u; m < TM; m++) { sums[m * COLUMNS + n] += dot(x[m], w); }
      }
    }
    // The rolled loop indexes a copy, so that the sums stay in registers.
    var results = sums;
    for (var m = 0u; m < dims.M; m++) {
      for (var n = column; n < min(column + COLUMNS, dims.N); n += 4u) {
        let start = m * COLUMNS + n - column;
        let total = subgroupAdd(vec4f(results[start], results[start + 1u], results[start + 2u], results[start + 3u]));
        if (lane == 0u) {
          let v = epilogue(total, vec3u(batch, m, n));
          let at = (batch * dims.M + m) * dims.N + n;
          c[at] = v.x;
          if (n + 1u < dims.N) { c[at + 1u] = v.y; }
          if (n + 2u < dims.N) { c[at + 2u] = v.z; }
          if (n + 3u < dims.N) { c[at + 3u] = v.w; }
        }
      }
    }
  }
}
