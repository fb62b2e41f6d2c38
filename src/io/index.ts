export {
  type Checkpoint,
  openCheckpoint,
  openWeights,
  type Saveable,
  type SaveOptions,
  saveCheckpoint,
} from "./huggingface.ts";
export {
  type Entry,
  type HostTensor,
  Safetensors,
  type StoredType,
  saveSafetensors,
  type WriteEntry,
  type WriteOptions,
} from "./safetensors.ts";
export { type ByteChunks, type FileSource, httpFiles, memoryFiles, openFolder, subfolder } from "./source.ts";
