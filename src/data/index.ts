export { type Balance, type BalanceOptions, balanceCaptions, contentPhrases } from "./balance.ts";
export {
  briefInstructions,
  type CaptionOptions,
  type ConversationJson,
  type ConversationOptions,
  captionInstruction,
  conversation,
  detailInstructions,
} from "./conversations.ts";
export {
  type Collated,
  ConcatDataset,
  collate,
  DataLoader,
  type DataLoaderOptions,
  Dataset,
  type DatasetLike,
  type LoaderState,
  RandomSampler,
  randomSplit,
  type Sampler,
  Subset,
  TensorDataset,
  WeightedRandomSampler,
} from "./loader.ts";
export { randomOf, shuffled } from "./random.ts";
export { type FileRecord, readRecords, writeRecords } from "./records.ts";
export {
  type InstructionKind,
  type Scene,
  sceneText,
  type Teacher,
  type TeacherMessage,
  type TeacherOptions,
  teach,
  teacherPrompts,
} from "./teacher.ts";
