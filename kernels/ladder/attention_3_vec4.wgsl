// Attention, step 3: vec4f loads. The query stays in private memory instead of being read again for every key.
//
// Grid: ceil(T / 16) x H.
const D4_MAX: u32 = 16u; // param: at least D / 4

// shared: dims from attention_1_naive
struct Dims {
  T: u32, S: u32, D4: u32, // queries, keys, head size / 4
  causal: u32, // 1: query t sees the keys 0 … t
  scale: f32,
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> o: array<vec4f>;

@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.T) { return; }
  let query = (id.y * dims.T + id.x) * dims.D4;
  let count = select(dims.S, min(id.x + 1u, dims.S), dims.causal == 1u);
  var row = array<vec4f, D4_MAX>();
  for (var d = 0u; d < dims.D4; d++) { row[d] = q[query + d] * dims.scale; }
  var sums = array<vec4f, D4_MAX>();
  var largest = -3.4e38;
  var total = 0.0;
  for (var s = 0u; s < count; s++) {
    let key = (id.y * dims.S + s) * dims.D4;
    var score = 0.0;
    for (var d = 0u; d < dims.D4; d++) { score += dot(row[d], k[key + d]); }
    let next = max(largest, score);
    let rescale = exp(largest - next);
    let weight = exp(score - next);
    largest = next;
    total = total * rescale + weight;
    for (var d = 0u; d < dims.D4; d++) { sums[d] = sums[d] * rescale + weight * v[key + d]; }
  }
  for (var d = 0u; d < dims.D4; d++) { o[query + d] = sums[d] / total; }
}
