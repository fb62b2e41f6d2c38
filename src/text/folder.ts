import { type FileSource, readJson } from "../io/index.ts";
import { parseSentencePiece, sentencePieceJson } from "./sentencepiece.ts";
import { Tokenizer, type TokenizerConfig } from "./tokenizer.ts";

/**
 * The tokenizer of a folder: tokenizer.json, else SentencePiece's tokenizer.model; undefined if there is neither. Its config is
 * tokenizer_config.json, its chat template chat_template.jinja, else that of chat_template.json, else that of the config.
 * ```ts
 * const tokenizer = await loadTokenizer(await openFolder("path/to/llama"));
 * ```
 */
export async function loadTokenizer(source: FileSource): Promise<Tokenizer | undefined> {
  const json = async (path: string) => ((await source.size(path)) === undefined ? undefined : readJson(source, path));
  const config: TokenizerConfig = (await json("tokenizer_config.json")) ?? {};
  // A processor's template takes precedence: the tokenizer's may be for text alone.
  config.chat_template = (await json("chat_template.json"))?.chat_template ?? config.chat_template;
  if ((await source.size("chat_template.jinja")) !== undefined)
    config.chat_template = new TextDecoder().decode(await source.read("chat_template.jinja"));
  const path = (await source.size("tokenizer.json")) === undefined ? "tokenizer.model" : "tokenizer.json";
  if ((await source.size(path)) === undefined) return undefined;
  const where = `${source.location}/${path}`;
  try {
    if (path === "tokenizer.json") return new Tokenizer(await readJson(source, path), config);
    const pieces = parseSentencePiece(await source.read(path), where);
    return new Tokenizer(sentencePieceJson(pieces, config, await json("added_tokens.json")), config);
  } catch (error) {
    const { message } = error as Error;
    throw new Error(message.startsWith(where) ? message : `${where}: ${message}`);
  }
}

/** @throws if a tokenizer has more ids than its model's embedding table has rows. */
export function checkTokenizer(source: FileSource, tokenizer: { size: number }, config: { vocab_size: number }): void {
  if (tokenizer.size > config.vocab_size)
    throw new Error(
      `${source.location}: the tokenizer has ${tokenizer.size} ids, the embedding ${config.vocab_size} rows (vocab_size): they do not belong together`,
    );
}
