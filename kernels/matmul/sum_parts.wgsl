// Sum of partial results over their first dim, in ascending order, so that it does not depend on timing: the second half of
// split-K products (matmul.wgsl) and of column sums (norm_backward.wgsl).
//
// Paper: Kahan 1965, with blocks of 24 plain additions between compensated ones: the relative error of sums of one sign stays
// below 10^-6 for any number of parts.
// Shapes: parts [parts, count], c [count]. Grid: y * grid_x + x = groups of WG vectors of c, one per invocation.
const WG: u32 = 64u; // param: size of the workgroup
const WIDTH: u32 = 1u; // param: elements of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f if rows are multiples of 4
alias U = u32; // param: vec4u with V = vec4f

struct Dims { parts: u32, count: u32, zero: u32 } // count: vectors of c; zero: 0, which the compiler cannot know

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> parts: array<V>; // [parts, count]
@group(0) @binding(2) var<storage, read_write> c: array<V>; // [count]

// The sum at `i` = 0, 0, first element, with the elementwise ops that follow.
fn epilogue(value: V, i: vec3u) -> V { // hook
  return value;
}
// Stores the sum. May store halves.
fn store(at: u32, value: V) { // hook
  c[at] = value;
}

// x, but the compiler cannot simplify differences of it.
fn opaque(x: V) -> V {
  return bitcast<V>(bitcast<U>(x) ^ U(dims.zero));
}
// x, or 0 where it is infinite or NaN.
fn finite(x: V) -> V {
  return select(V(), x, (bitcast<U>(x) & U(0x7f800000u)) != U(0x7f800000u));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.y * groups.x + group.x) * WG + lane;
  if (at >= dims.count) { return; }
  var sum = V();
  var low = V(); // what `sum` has too much
  for (var first = 0u; first < dims.parts; first += 24u) {
    var part = V();
    let last = min(first + 24u, dims.parts);
    for (var s = first; s < last; s++) { part += parts[s * dims.count + at]; }
    let term = part - low;
    let next = opaque(sum + term);
    low = finite(opaque(next - sum) - term);
    sum = next;
  }
  store(at, epilogue(sum - low, vec3u(0u, 0u, at * WIDTH)));
}
