// Depthwise convolution of stride and dilation 1: y[n, o, i, j] = Σ w[o, r, s] · x[n, o / multiple, i + r - top, j + s - left].
//
// Shapes: x [samples, channels, height, width], w [outputs, KH, KW] with outputs = channels · multiple, y [samples, outputs, rows, N].
// Grid: y * grid_x + x = groups of WG patches of ROWS x 4 windows, columns first, then rows, outputs and samples.
// Special: a lane reads each element of its patch once and keeps the sums in registers.
const WG: u32 = 64u; // param: size of the workgroup
const KH: u32 = 3u; // param: kernel size
const KW: u32 = 3u; // param
alias C = f32; // param: element type of `c`
const ROWS: u32 = 4u; // param: rows of windows per lane

// shared: depthwise_dims
struct Dims { samples: u32, outputs: u32, multiple: u32, height: u32, width: u32, rows: u32, N: u32, patches: u32, top: u32, left: u32 } // N = windows in a row; zeros before the first row and column
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<C>;

// shared: epilogue from matmul
// Four columns of C at `i` = batch, row, first column, with the elementwise ops that follow. Columns from N on are dropped.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}
// end shared
// shared: store from matmul
// Stores four columns of C from `column` on, the first one at element `at`. May store halves.
fn store(at: u32, value: vec4f, column: u32) { // hook
  if (column < dims.N) { c[at] = value.x; }
  if (column + 1u < dims.N) { c[at + 1u] = value.y; }
  if (column + 2u < dims.N) { c[at + 2u] = value.z; }
  if (column + 3u < dims.N) { c[at + 3u] = value.w; }
}
// end shared

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let number = (group.y * groups.x + group.x) * WG + lane;
  if (number >= dims.patches) { return; }
  let across = (dims.N + 3u) / 4u;
  let down = (dims.rows + ROWS - 1u) / ROWS;
  let column = number % across * 4u;
  let row = number / across % down * ROWS;
  let plane = number / across / down;
  let output = plane % dims.outputs;
  let channel = plane / dims.outputs * (dims.outputs / dims.multiple) + output / dims.multiple;

  var weight = array<f32, KH * KW>();
  for (var k = 0u; k < KH * KW; k++) { weight[k] = w[output * KH * KW + k]; }
  var sums = array<vec4f, ROWS>();
  for (var i = 0u; i < ROWS + KH - 1u; i++) {
    let down_x = row + i - dims.top; // before x it wraps around
    let start = (channel * dims.height + min(down_x, dims.height - 1u)) * dims.width;
    var v = array<f32, KW + 3u>();
    for (var j = 0u; j < KW + 3u; j++) {
      let across_x = column + j - dims.left;
      v[j] = select(0.0, x[start + min(across_x, dims.width - 1u)], down_x < dims.height && across_x < dims.width);
    }
    for (var r = 0u; r < ROWS; r++) {
      if (i >= r && i - r < KH) {
        for (var k = 0u; k < KW; k++) { sums[r] += weight[(i - r) * KW + k] * vec4f(v[k], v[k + 1u], v[k + 2u], v[k + 3u]); }
      }
    }
  }
  for (var r = row; r < min(row + ROWS, dims.rows); r++) {
    let at = r * dims.N + column;
    store(plane * dims.rows * dims.N + at, epilogue(sums[r - row], vec3u(plane / dims.outputs, output, at)), column);
  }
}
