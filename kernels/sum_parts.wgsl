// c = sum of partial results over their first dim, in ascending order, so that it does not depend on timing: the second
// half of split-K products (matmul.wgsl) and of column sums by slabs (norm_backward.wgsl).
// One lane per four columns of a row. parts: [parts, batch, M, N], c: [batch, M, N].
const WG: u32 = 64u; // param

struct Dims { parts: u32, batches: u32, M: u32, N: u32, quads: u32 } // quads = ceil(N / 4)

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

// `i` = batch, row, first column. Columns from N on are dropped afterwards.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}
// Columns of C from `column` on, the first of them at element `at`, as in matmul.wgsl.
fn store(at: u32, value: vec4f, column: u32) { // hook
  c[at] = value.x;
  if (column + 1u < dims.N) { c[at + 1u] = value.y; }
  if (column + 2u < dims.N) { c[at + 2u] = value.z; }
  if (column + 3u < dims.N) { c[at + 3u] = value.w; }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quad = (group.y * groups.x + group.x) * WG + lane;
  let line = quad / dims.quads; // batch * M + row
  if (line >= dims.batches * dims.M) { return; }
  let column = quad % dims.quads * 4u;
  let left = dims.N - column;
  let at = line * dims.N + column;
  var sum = vec4f();
  for (var s = 0u; s < dims.parts; s++) {
    let p = at + s * dims.batches * dims.M * dims.N;
    var v = vec4f(parts[p], 0.0, 0.0, 0.0);
    if (left > 1u) { v.y = parts[p + 1u]; }
    if (left > 2u) { v.z = parts[p + 2u]; }
    if (left > 3u) { v.w = parts[p + 3u]; }
    sum += v;
  }
  let v = epilogue(sum, vec3u(line / dims.M, line % dims.M, column));
  store(at, v, column);
}
