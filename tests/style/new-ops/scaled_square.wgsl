// y = SCALE * x * x.
const SCALE: f32 = 1.0; // param

struct Dims { values: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// `i` = 0, 0, element.
fn epilogue(value: f32, i: vec3u) -> f32 { // hook
  return value;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = at.y * groups.x * 64u + at.x;
  if (i < dims.values) { y[i] = epilogue(SCALE * x[i] * x[i], vec3u(0u, 0u, i)); }
}
