/** Text: tokenizers, chat templates, and the conversation templates of LLaVA and mPLUG-Owl. */
export { type BpeOptions, trainBPE } from "./bpe.ts";
export * from "./conversation.ts";
export { checkTokenizer, loadTokenizer } from "./folder.ts";
export { type Piece, type PieceModel, parseSentencePiece, sentencePieceJson } from "./sentencepiece.ts";
export type { ChatTemplateMessage, ChatTemplateOptions } from "./template.ts";
export {
  byteToChar,
  type DecodeOptions,
  type EncodeOptions,
  Tokenizer,
  type TokenizerConfig,
  type TokenizerJson,
} from "./tokenizer.ts";
