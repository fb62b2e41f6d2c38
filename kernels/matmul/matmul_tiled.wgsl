// Batched matrix product as matmul.wgsl, for adapters without a fixed subgroup size.
//
// Operands, splits and grid as in matmul.wgsl.
// Special: a workgroup of 8 x 8 invocations computes 8 * TM rows x 32 columns. Each holds TM rows x 4 columns in registers
//   and reads its operands directly: the cache replaces workgroup memory, without barriers.
const TM: u32 = 4u; // param: rows per invocation
const K_GUARD: bool = true; // param: false if K and k_chunk are multiples of 4
const A_VEC: bool = false; // param: read A as vec4f along k: stride 1 there, all else multiples of 4
const B_VEC: u32 = 0u; // param: read B as scalars (0), or as vec4f along k (1) or n (2)
alias A = f32; // param: element type of `a`, which a_1 or, with A_VEC, a_4 reads: vec4f
alias B = f32; // param: element type of `b`, the same

// shared: dims from matmul
struct Dims {
  M: u32, N: u32, K: u32, k_chunk: u32,
  row_tiles: u32, column_tiles: u32, row_step: u32, column_step: u32, first: u32, slices: u32,
  batches: u32, size_1: u32, size_2: u32, // batch = (i0 * size_1 + i1) * size_2 + i2
  a_offset: u32, a_0: u32, a_1: u32, a_2: u32, a_m: u32, a_k: u32,
  b_offset: u32, b_0: u32, b_1: u32, b_2: u32, b_k: u32, b_n: u32,
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

// shared: epilogue from matmul
// Four columns of C at `i` = batch, row, first column, with the elementwise ops that follow. Columns from N on are dropped.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}
// end shared
// Stores four columns of C from `column` on, which is below N, the first one at element `at`.
fn store(at: u32, value: vec4f, column: u32) { // hook
  c[at] = value.x;
  if (column + 1u < dims.N) { c[at + 1u] = value.y; }
  if (column + 2u < dims.N) { c[at + 2u] = value.z; }
  if (column + 3u < dims.N) { c[at + 3u] = value.w; }
}

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

// Four values of A along k.
fn load_a(at: u32, exists: vec4<bool>) -> vec4f {
  if (A_VEC) { return a_4(at); }
  let s = dims.a_k;
  let v = vec4f(a_1(at), a_1(at + s), a_1(at + 2u * s), a_1(at + 3u * s));
  if (K_GUARD) { return select(vec4f(), v, exists); }
  return v;
}

// Four columns of a row of B.
fn load_b(at: vec4u, exists: bool) -> vec4f {
  var v = vec4f();
  if (B_VEC == 2u) {
    v = b_4(at.x);
  } else {
    v = vec4f(b_1(at.x), b_1(at.y), b_1(at.z), b_1(at.w));
  }
  return select(vec4f(), v, exists);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let tile = group.y * groups.x + group.x;
  let slice = tile / dims.row_tiles / dims.column_tiles;
  let row = (tile / dims.row_step % dims.row_tiles * 8u + lane.y) * TM;
  let column = (tile / dims.column_step % dims.column_tiles * 8u + lane.x) * 4u;
  if (slice >= dims.slices || row >= dims.M || column >= dims.N) { return; }
  // shared: slice from matmul_workgroup
  let batch = slice % dims.batches;
  let i = vec3u(batch / dims.size_2 / dims.size_1, batch / dims.size_2 % dims.size_1, batch % dims.size_2);
  let begin = slice / dims.batches * dims.k_chunk;
  let end = min(begin + dims.k_chunk, dims.K);
  let a_batch = dims.a_offset + i.x * dims.a_0 + i.y * dims.a_1 + i.z * dims.a_2;
  let b_batch = dims.b_offset + i.x * dims.b_0 + i.y * dims.b_1 + i.z * dims.b_2;
  // end shared
  let last = select(dims.N - 1u, (dims.N - 1u) / 4u * 4u, B_VEC == 2u);
  let columns = min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(last)) * dims.b_n + b_batch;
  var rows = array<u32, TM>();
  for (var r = 0u; r < TM; r++) { rows[r] = a_batch + min(row + r, dims.M - 1u) * dims.a_m; }
  var sums = array<vec4f, TM>();
  for (var k = begin; k < end; k += 4u) {
    let exists = vec4u(k) + vec4u(0u, 1u, 2u, 3u) < vec4u(end);
    var vb = array<vec4f, 4>();
    if (B_VEC == 1u) {
      let at = columns + k;
      let m = transpose(mat4x4f(b_4(at.x), b_4(at.y), b_4(at.z), b_4(at.w)));
      for (var j = 0u; j < 4u; j++) { vb[j] = m[j]; }
    } else {
      for (var j = 0u; j < 4u; j++) { vb[j] = load_b(columns + (k + j) * dims.b_k, !K_GUARD || exists[j]); }
    }
    var va = array<vec4f, TM>();
    for (var r = 0u; r < TM; r++) { va[r] = load_a(rows[r] + k * dims.a_k, exists); }
    for (var r = 0u; r < TM; r++) {
      sums[r] += va[r].x * vb[0] + va[r].y * vb[1] + va[r].z * vb[2] + va[r].w * vb[3];
    }
  }

  // The rolled loop indexes a copy, so that the sums stay in registers. It counts rows of C, so that drivers do not unroll it
  // and its epilogue to the length of the array, which costs seconds of compilation.
  var results = sums;
  for (var m = row; m < min(row + TM, dims.M); m++) {
    let v = epilogue(results[m - row], vec3u(batch, m, column));
    let at = ((dims.first + slice) * dims.M + m) * dims.N + column;
    store(at, v, column);
  }
}
