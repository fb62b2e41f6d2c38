export { namedPath, pathInside } from "../runtime/path.ts";
export {
  type Checkpoint,
  copyOrigin,
  noteOrigin,
  openCheckpoint,
  openWeights,
  type Saveable,
  type SaveOptions,
  saveCheckpoint,
  writeEntries,
} from "./huggingface.ts";
export { type FloatType, saveSafetensors, type WriteEntry, type WriteOptions } from "./safetensors.ts";
export { load, save } from "./save.ts";
export {
  type ByteChunks,
  browserFiles,
  type FileSource,
  httpFiles,
  jsonBytes,
  memoryFiles,
  type NewFiles,
  openFolder,
  readJson,
  subfolder,
  writeFile,
} from "./source.ts";
export { type HostTensor, round16, type StoredType } from "./stored.ts";
export { type Entry, TensorFiles } from "./tensors.ts";
export { saveTorch } from "./torch.ts";
