// Attention, step 2: one pass over the keys. Maximum and sum are updated with every key, and o is rescaled when they change.
//
// Paper: online softmax (Milakov and Gimelshein 2018). Grid: ceil(T / 16) x H. o stays in private memory until the end.
const D_MAX: u32 = 64u; // param: at least D

// shared: dims from attention_1_naive
struct Dims {
  T: u32, S: u32, D4: u32, // queries, keys, head size / 4
  causal: u32, // 1: query t sees the keys 0 … t
  scale: f32,
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> o: array<f32>;

@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.T) { return; }
  let D = dims.D4 * 4u;
  let query = (id.y * dims.T + id.x) * D;
  let count = select(dims.S, min(id.x + 1u, dims.S), dims.causal == 1u);
  var sums = array<f32, D_MAX>();
  var largest = -3.4e38;
  var total = 0.0;
  for (var s = 0u; s < count; s++) {
    let key = (id.y * dims.S + s) * D;
    var score = 0.0;
    for (var d = 0u; d < D; d++) { score += q[query + d] * k[key + d]; }
    score *= dims.scale;
    let next = max(largest, score);
    let rescale = exp(largest - next);
    let weight = exp(score - next);
    largest = next;
    total = total * rescale + weight;
    for (var d = 0u; d < D; d++) { sums[d] = sums[d] * rescale + weight * v[key + d]; }
  }
  for (var d = 0u; d < D; d++) { o[query + d] = sums[d] / total; }
}
