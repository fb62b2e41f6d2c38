import { Tokenizer as Model } from "@huggingface/tokenizers";
import { type ChatTemplateMessage, type ChatTemplateOptions, renderChatTemplate } from "./template.ts";

/** A Hugging Face `tokenizer.json`: the parts that are read here. */
export interface TokenizerJson {
  version?: string;
  added_tokens?: AddedToken[];
  normalizer?: Component | null;
  pre_tokenizer?: Component | null;
  post_processor?: Component | null;
  decoder?: Component | null;
  model: {
    type?: string;
    /** Ids by token (BPE, WordPiece), or tokens with their scores (Unigram). */
    vocab: Record<string, number> | [string, number][];
    merges?: (string | [string, string])[];
    unk_token?: string | null;
    byte_fallback?: boolean;
    [key: string]: unknown;
  };
  [key: string]: unknown;
}
export interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  normalized?: boolean;
  [key: string]: unknown;
}
export type Component = { type: string; [key: string]: any };

/** The keys of tokenizer_config.json that are read besides tokenizer.json. */
export interface TokenizerConfig {
  bos_token?: string | { content: string } | null;
  eos_token?: string | { content: string } | null;
  /** A Jinja template, or several by name. */
  chat_template?: string | { name: string; template: string }[] | null;
  [key: string]: unknown;
}

export interface EncodeOptions {
  /** Apply the post-processor of the file (for LLaMA: add `<s>` first). Default true. */
  addSpecialTokens?: boolean;
}
export interface DecodeOptions {
  /** Leave special tokens out of the text. Default true. */
  skipSpecialTokens?: boolean;
}

const utf8 = new TextEncoder();

/** GPT-2's printable character for each byte. Printable bytes keep their own. */
export const byteToChar: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => {
    const prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    return String.fromCharCode(prints ? b : next++);
  });
})();
const charToByte = new Map(byteToChar.map((char, byte) => [char, byte]));

/**
 * A tokenizer from `tokenizer.json`, based on Hugging Face's library. Other files (`tokenizer.model`, GGUF) are converted to that
 * form first. Decoding yields whole characters only.
 * ```ts
 * const ids = tokenizer.encode("Hello"); // with begin token, if the model has one
 * tokenizer.decode(ids); // "Hello"
 * ```
 */
export class Tokenizer {
  /** Number of ids, special tokens included. */
  readonly size: number;
  readonly #model: Model;
  readonly #special: ReadonlySet<number>;
  readonly #added: ReadonlyMap<string, number>;
  /** Spelling of bytes in tokens. */
  readonly #spelling: "bytes" | "sentencepiece" | "words";
  readonly #stripLeadingSpace: boolean;

  /** @throws if the file is no tokenizer.json, or has parts that the library lacks. */
  constructor(
    readonly json: TokenizerJson,
    readonly config: TokenizerConfig = {},
  ) {
    if (!json.model?.vocab) throw new Error("tokenizer: expected a tokenizer.json with a model and its vocabulary");
    const { model, decoder = null, normalizer = null, pre_tokenizer = null, post_processor = null } = json;
    const added = json.added_tokens ?? [];
    checkModel(json);
    const complete = { ...json, added_tokens: added, decoder, normalizer, pre_tokenizer, post_processor };
    // "Clean up" deletes spaces before punctuation, so decoding would not return the text that was encoded.
    this.#model = new Model(complete, { ...config, clean_up_tokenization_spaces: false });
    // Unknown characters stay separate, so that each can be spelled in bytes.
    if (model.type === "Unigram" && model.byte_fallback) this.#model.model!.fuse_unk = false;
    this.#special = new Set(added.filter(({ special }) => special).map(({ id }) => id));
    this.#added = new Map(added.map(({ id, content }) => [content, id]));
    this.size = this.#model.model!.vocab.length;
    const parts = JSON.stringify([pre_tokenizer, decoder]);
    this.#spelling = parts.includes('"ByteLevel"') ? "bytes" : model.type === "WordPiece" ? "words" : "sentencepiece";
    this.#stripLeadingSpace =
      this.#spelling === "sentencepiece" && /"Strip"|"Metaspace"/.test(JSON.stringify(decoder ?? null));
  }

  /** Id of a token in the spelling of the vocabulary, or undefined. */
  tokenToId(token: string): number | undefined {
    return this.#model.token_to_id(token);
  }

  /** Token of an id, in the spelling of the vocabulary. */
  idToToken(id: number): string {
    const token = this.#model.id_to_token(id);
    if (token === undefined) throw new Error(`tokenizer: id ${id} is outside the vocabulary of ${this.size}`);
    return token;
  }

  /** A copy with `tokens` as further special tokens. New ones get the ids after the existing ones, in order. */
  withTokens(...tokens: string[]): Tokenizer {
    const fresh = tokens.filter((token) => this.tokenToId(token) === undefined);
    const added = fresh.map((content, i) => ({ id: this.size + i, content, special: true }));
    return new Tokenizer({ ...this.json, added_tokens: [...(this.json.added_tokens ?? []), ...added] }, this.config);
  }

  /** Id of the end token in tokenizer_config.json. */
  get eosTokenId(): number | undefined {
    const { eos_token: token } = this.config;
    const text = typeof token === "string" ? token : token?.content;
    return text === undefined ? undefined : this.tokenToId(text);
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  /** Ids of `text`. Special tokens in the text become their ids. */
  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    const { ids, tokens } = this.#model.encode(text, { add_special_tokens: addSpecialTokens });
    if (this.json.model.type === "Unigram" && this.json.model.byte_fallback)
      return tokens.flatMap((token, i) =>
        this.tokenToId(token) === undefined ? this.#bytesOf(token, ids[i]) : [ids[i]],
      );
    const unknown = ids.findIndex((id) => id === undefined);
    if (unknown >= 0)
      throw new Error(
        `tokenizer: ${JSON.stringify(tokens[unknown])} is not in the vocabulary, and there is no unknown token`,
      );
    return ids;
  }

  #bytesOf(text: string, unknown: number): number[] {
    const ids = Array.from(utf8.encode(text), (byte) => this.tokenToId(byteToken(byte)));
    return ids.every((id) => id !== undefined) ? (ids as number[]) : [unknown];
  }

  /** The text of a conversation by the model's Jinja template, special tokens included. */
  applyChatTemplate(messages: readonly ChatTemplateMessage[], options?: ChatTemplateOptions): string {
    return renderChatTemplate(this.config, messages, options);
  }

  /** UTF-8 bytes of one token. A character may span several tokens. */
  #bytes(id: number): Uint8Array {
    const token = this.idToToken(id);
    if (this.#added.has(token)) return utf8.encode(token);
    if (this.#spelling === "bytes") return Uint8Array.from(token, (char) => charToByte.get(char)!);
    const byte = BYTE_TOKEN.exec(token);
    return byte ? Uint8Array.of(parseInt(byte[1], 16)) : utf8.encode(token.replaceAll("▁", " "));
  }

  /** Text of `ids`. Bytes that are not UTF-8 become U+FFFD: one per byte of a run of byte tokens, as in Hugging Face. */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    const stream = this.stream(options);
    return ids.map((id) => stream.push(id)).join("") + stream.end();
  }

  /** Decodes ids one by one. `push` returns the text that is complete, never half a character; `end` the rest. */
  stream({ skipSpecialTokens = true }: DecodeOptions = {}): { push(id: number): string; end(): string } {
    const skipped = (id: number) => skipSpecialTokens && this.#special.has(id);
    if (this.#spelling === "words") {
      const ids: number[] = [];
      let text = "";
      const push = (id: number): string => {
        this.idToToken(id);
        if (skipped(id)) return "";
        ids.push(id);
        const before = text.length;
        text = this.#model.decode(ids);
        return text.slice(before);
      };
      return { push, end: () => "" };
    }
    let first = this.#stripLeadingSpace;
    const bytesOf = (id: number): Uint8Array => {
      const bytes = this.#bytes(id);
      const stripped = first && bytes[0] === 32 ? bytes.subarray(1) : bytes;
      first = false;
      return stripped;
    };
    if (this.#spelling === "sentencepiece") {
      let run: number[] = []; // bytes of consecutive byte tokens
      const flush = (): string => {
        const text = fallbackText(Uint8Array.from(run));
        run = [];
        return text;
      };
      const push = (id: number): string => {
        if (skipped(id)) return "";
        const bytes = bytesOf(id);
        if (BYTE_TOKEN.test(this.idToToken(id))) {
          run.push(...bytes);
          return "";
        }
        return flush() + new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
      };
      return { push, end: flush };
    }
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return {
      push: (id) => (skipped(id) ? "" : decoder.decode(bytesOf(id), { stream: true })),
      end: () => decoder.decode(),
    };
  }
}

/** As Hugging Face's ByteFallback: a run of byte tokens is text if all of it is UTF-8, else one U+FFFD per byte. */
function fallbackText(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { ignoreBOM: true, fatal: true }).decode(bytes);
  } catch {
    return "\ufffd".repeat(bytes.length);
  }
}

const BYTE_TOKEN = /^<0x([0-9A-F]{2})>$/;

/** SentencePiece's spelling of a byte. */
export const byteToken = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;

/** @throws on parts that the library ignores silently, or fails at with an unclear error. */
function checkModel({ model }: TokenizerJson): void {
  const { vocab, merges } = model;
  const known = ["BPE", "Unigram", "WordPiece"];
  if (model.type && !known.includes(model.type))
    throw new Error(`tokenizer: the model ${model.type} is not supported; known are ${known.join(", ")}`);
  if (Array.isArray(vocab) || model.type === "WordPiece") return;
  for (const merge of merges ?? []) {
    const [left, right] = typeof merge === "string" ? merge.split(" ") : merge;
    if (![left, right, left + right].every((token) => Object.hasOwn(vocab, token)))
      throw new Error(`tokenizer: merge "${left} ${right}" is not in the vocabulary`);
  }
}
