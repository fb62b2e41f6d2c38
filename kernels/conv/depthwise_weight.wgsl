// Gradient of the weight of a depthwise convolution (depthwise.wgsl): dw[o, r, s] = Σ g[n, o, i, j] · x[n, o / multiple, i + r, j + s].
//
// Shapes: g [samples, outputs, rows, N]; all others as there. Grid: y * grid_x + x = output.
// Special: a lane takes patches of ROWS x 4 windows and keeps a sum per tap. Each sample is added up on its own, which keeps
//   rounding errors small.
const WG: u32 = 64u; // param: size of the workgroup
const KH: u32 = 3u; // param: kernel size
const KW: u32 = 3u; // param
const ROWS: u32 = 4u; // param: rows of windows per patch

// shared: depthwise_dims from depthwise
struct Dims { samples: u32, outputs: u32, multiple: u32, height: u32, width: u32, rows: u32, N: u32, patches: u32, top: u32, left: u32 } // N = windows in a row; zeros before the first row and column
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

var<workgroup> partial: array<f32, WG * KH * KW>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let output = group.y * groups.x + group.x;
  if (output >= dims.outputs) { return; }
  let across = (dims.N + 3u) / 4u;
  let down = (dims.rows + ROWS - 1u) / ROWS;
  var total = array<f32, KH * KW>();
  for (var n = 0u; n < dims.samples; n++) {
    let channel = n * (dims.outputs / dims.multiple) + output / dims.multiple;
    let plane = (n * dims.outputs + output) * dims.rows;
    var sums = array<f32, KH * KW>();
    for (var patch_ = lane; patch_ < across * down; patch_ += WG) {
      let column = patch_ % across * 4u;
      let row = patch_ / across * ROWS;
      let inside = vec4u(column) + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.N);
      let at = min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(dims.N - 1u));
      var gradient = array<vec4f, ROWS>();
      for (var r = 0u; r < ROWS; r++) {
        let start = (plane + min(row + r, dims.rows - 1u)) * dims.N;
        let values = vec4f(g[start + at.x], g[start + at.y], g[start + at.z], g[start + at.w]);
        gradient[r] = select(vec4f(), values, inside & vec4<bool>(row + r < dims.rows));
      }
      for (var i = 0u; i < ROWS + KH - 1u; i++) {
        let start = (channel * dims.height + min(row + i, dims.height - 1u)) * dims.width;
        var v = array<f32, KW + 3u>();
        for (var j = 0u; j < KW + 3u; j++) {
          let value = x[start + min(column + j, dims.width - 1u)];
          v[j] = select(0.0, value, row + i < dims.height && column + j < dims.width);
        }
        for (var r = 0u; r < ROWS; r++) {
          if (i >= r && i - r < KH) {
            for (var k = 0u; k < KW; k++) { sums[(i - r) * KW + k] += dot(gradient[r], vec4f(v[k], v[k + 1u], v[k + 2u], v[k + 3u])); }
          }
        }
      }
    }
    for (var k = 0u; k < KH * KW; k++) { total[k] += sums[k]; }
  }
  // One barrier for all taps: software adapters compile each barrier of an unrolled loop anew.
  for (var k = 0u; k < KH * KW; k++) { partial[k * WG + lane] = total[k]; }
  workgroupBarrier();
  for (var k = lane; k < KH * KW; k += WG) {
    var sum = 0.0;
    for (var l = 0u; l < WG; l++) { sum += partial[k * WG + l]; }
    dw[output * KH * KW + k] = sum;
  }
}
