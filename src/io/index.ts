export { type Checkpoint, openCheckpoint, openWeights, type Saveable, saveCheckpoint, type SaveOptions } from "./huggingface.ts";
export { type Entry, type HostTensor, Safetensors, saveSafetensors, type StoredType, type WriteEntry, type WriteOptions } from "./safetensors.ts";
export { type ByteChunks, type FileSource, httpFiles, memoryFiles, openFolder, subfolder } from "./source.ts";
