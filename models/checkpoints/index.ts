/** Checkpoints: weights of folders into models and back, LoRA adapters, projectors, GGUF files. */
export { readGguf } from "./gguf.ts";
export {
  denseState,
  folderOf,
  type LoadOptions,
  type LoadProgress,
  loadModel,
  loadSources,
  loadWeights,
  noteFolder,
  type Rename,
  rename,
  saveModel,
} from "./load.ts";
export { type AdapterOptions, loadAdapter, saveAdapter } from "./peft.ts";
export { loadProjector, type ProjectorFileOptions, saveProjector } from "./projector.ts";
