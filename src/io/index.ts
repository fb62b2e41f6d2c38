export {
  type Checkpoint,
  openCheckpoint,
  openWeights,
  type Saveable,
  type SaveOptions,
  saveCheckpoint,
} from "./huggingface.ts";
export { type FloatType, saveSafetensors, type WriteEntry, type WriteOptions } from "./safetensors.ts";
export {
  type ByteChunks,
  browserFiles,
  type FileSource,
  httpFiles,
  memoryFiles,
  type NewFiles,
  openFolder,
  subfolder,
} from "./source.ts";
export type { HostTensor, StoredType } from "./stored.ts";
export { type Entry, TensorFiles } from "./tensors.ts";
export { saveTorch } from "./torch.ts";
