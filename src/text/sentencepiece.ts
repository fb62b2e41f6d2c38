/** SentencePiece models (`tokenizer.model`) as a tokenizer.json: BPE and unigram, byte fallback, dummy prefix. */
import { type AddedToken, byteToken, type Component, type TokenizerConfig, type TokenizerJson } from "./tokenizer.ts";

/** A SentencePiece vocabulary, from tokenizer.model or a GGUF file. */
export interface PieceModel {
  readonly kind: "unigram" | "bpe";
  readonly pieces: readonly Piece[];
  /** Add a space before the text, so that its first word is spelled as elsewhere. Default true. */
  readonly dummyPrefix: boolean;
  /** Reduce runs of spaces to one, and remove those at both ends. */
  readonly removeExtraSpaces: boolean;
  /** Compiled character map of a normalisation such as nmt_nfkc; empty for identity. */
  readonly charsMap: Uint8Array;
}
export interface Piece {
  readonly text: string;
  readonly score: number;
  /** 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
  readonly type: number;
}

const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const BYTE = 6;

/** Reads a `tokenizer.model`, a protocol buffer. */
export function parseSentencePiece(bytes: Uint8Array, where: string): PieceModel {
  const pieces: Piece[] = [];
  let kind = 1;
  let [dummyPrefix, removeExtraSpaces, charsMap] = [true, true, new Uint8Array()];
  try {
    for (const [field, value] of fields(bytes)) {
      if (field === 1 && value instanceof Uint8Array) pieces.push(parsePiece(value));
      if (field === 2 && value instanceof Uint8Array)
        for (const [inner, v] of fields(value)) if (inner === 3) kind = v as number;
      if (field === 3 && value instanceof Uint8Array) {
        for (const [inner, v] of fields(value)) {
          if (inner === 2) charsMap = v as Uint8Array<ArrayBuffer>;
          if (inner === 3) dummyPrefix = v !== 0;
          if (inner === 4) removeExtraSpaces = v !== 0;
        }
      }
    }
  } catch (error) {
    throw new Error(`${where} is truncated or no SentencePiece model: ${(error as Error).message}`);
  }
  if (pieces.length === 0) throw new Error(`${where}: a SentencePiece model without pieces`);
  if (kind !== 1 && kind !== 2)
    throw new Error(`${where}: SentencePiece model type ${kind} (word or char) is not supported; unigram and BPE are`);
  return { kind: kind === 1 ? "unigram" : "bpe", pieces, dummyPrefix, removeExtraSpaces, charsMap };
}

function parsePiece(bytes: Uint8Array): Piece {
  let [text, score, type] = ["", 0, NORMAL];
  for (const [field, value] of fields(bytes)) {
    if (field === 1) text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(value as Uint8Array);
    if (field === 2) score = value as number;
    if (field === 3) type = value as number;
  }
  return { text, score, type };
}

/** The fields of a protocol buffer: numbers (4-byte ones are floats) and byte strings. */
function* fields(bytes: Uint8Array): Generator<[number, number | Uint8Array]> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = view.getUint8(at++);
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const field = Math.floor(key / 8);
    switch (key % 8) {
      case 0:
        yield [field, varint()];
        break;
      case 1:
        at += 8;
        break;
      case 2: {
        const length = varint();
        if (at + length > bytes.length) throw new Error(`a field of ${length} bytes at byte ${at} of ${bytes.length}`);
        yield [field, bytes.subarray(at, at + length)];
        at += length;
        break;
      }
      case 5:
        yield [field, view.getFloat32(at, true)];
        at += 4;
        break;
      default:
        throw new Error(`wire type ${key % 8} at byte ${at}`);
    }
  }
}

/** The keys of tokenizer_config.json that slow LLaMA tokenizers read. */
interface PieceConfig extends TokenizerConfig {
  add_bos_token?: boolean;
  add_eos_token?: boolean;
  /** Whether text after a special token gets the dummy prefix too. Default true. */
  legacy?: boolean | null;
  /** false: no space before the text, whatever the model says. */
  add_prefix_space?: boolean | null;
  added_tokens_decoder?: Record<string, Omit<AddedToken, "id">>;
}

/** The tokenizer.json with the same ids. `more` are tokens after the model's own (added_tokens.json). */
export function sentencePieceJson(
  given: PieceModel,
  config: PieceConfig = {},
  more: Readonly<Record<string, number>> = {},
): TokenizerJson {
  const model = { ...given, dummyPrefix: given.dummyPrefix && config.add_prefix_space !== false };
  const { pieces } = model;
  const unknown = Math.max(
    0,
    pieces.findIndex(({ type }) => type === UNKNOWN),
  );
  const special = new Map<number, AddedToken>();
  const add = (id: number, content: string, isSpecial: boolean) =>
    special.set(id, { id, content, special: isSpecial, normalized: false });
  for (const [id, { text, type }] of pieces.entries())
    if ([UNKNOWN, CONTROL, USER_DEFINED].includes(type)) add(id, text, type !== USER_DEFINED);
  for (const [content, id] of Object.entries(more)) add(id, content, true);
  for (const [id, token] of Object.entries(config.added_tokens_decoder ?? {})) {
    special.set(Number(id), { normalized: false, ...token, id: Number(id), content: String(token.content) });
  }
  return {
    version: "1.0",
    added_tokens: [...special.values()].sort((a, b) => a.id - b.id),
    ...spaces(model, config.legacy ?? true),
    post_processor: postProcessor(pieces, config),
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(model.dummyPrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: model.kind === "bpe" ? bpe(pieces, unknown) : unigram(pieces, unknown),
  };
}

/** Normaliser: replaces spaces by "▁" and adds one before the text if needed. */
function spaces({ dummyPrefix, removeExtraSpaces, charsMap }: PieceModel, legacy: boolean) {
  const replace = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const first: Component[] = [];
  if (charsMap.length) first.push({ type: "Precompiled", precompiled_charsmap: base64(charsMap) });
  if (removeExtraSpaces)
    first.push(
      { type: "Strip", strip_left: true, strip_right: true },
      { type: "Replace", pattern: { Regex: " {2,}" }, content: " " },
    );
  const everyPart = [...first, ...(dummyPrefix ? [{ type: "Prepend", prepend: "▁" }] : []), replace];
  if (legacy || !dummyPrefix) return { normalizer: { type: "Sequence", normalizers: everyPart }, pre_tokenizer: null };
  return {
    normalizer: first.length ? { type: "Sequence", normalizers: first } : null,
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: false },
  };
}

/** Begin and end tokens as in the config. LLaMA's default is a begin token alone. */
function postProcessor(pieces: readonly Piece[], config: PieceConfig): Component | null {
  const content = (token: PieceConfig["bos_token"], usual: string) =>
    typeof token === "string" ? token : (token?.content ?? usual);
  const find = (wanted: boolean, text: string) => {
    const id = wanted ? pieces.findIndex((piece) => piece.text === text) : -1;
    return id < 0 ? [] : [{ text, id }];
  };
  const begin = find(config.add_bos_token ?? true, content(config.bos_token, "<s>"));
  const end = find(config.add_eos_token ?? false, content(config.eos_token, "</s>"));
  if (begin.length + end.length === 0) return null;
  const item = ({ text }: { text: string }) => ({ SpecialToken: { id: text, type_id: 0 } });
  return {
    type: "TemplateProcessing",
    single: [...begin.map(item), { Sequence: { id: "A", type_id: 0 } }, ...end.map(item)],
    pair: [],
    special_tokens: Object.fromEntries(
      [...begin, ...end].map(({ text, id }) => [text, { id: text, ids: [id], tokens: [text] }]),
    ),
  };
}

/** SentencePiece merges the adjacent pieces whose union has the best score, so the merges are the pieces, best first. */
function bpe(pieces: readonly Piece[], unknown: number): TokenizerJson["model"] {
  const ids = new Map(pieces.map(({ text }, id) => [text, id]));
  const joined = (text: string) => {
    const type = pieces[ids.get(text) ?? -1]?.type;
    return type === NORMAL || type === USER_DEFINED;
  };
  const merges: { pair: [string, string]; score: number; left: number; right: number }[] = [];
  for (const { text, score, type } of pieces) {
    if (type !== NORMAL && type !== USER_DEFINED) continue;
    for (let i = 0, at = 0; at < text.length; i = at) {
      at += text.codePointAt(at)! > 0xffff ? 2 : 1;
      if (i === 0) continue;
      const pair: [string, string] = [text.slice(0, i), text.slice(i)];
      if (joined(pair[0]) && joined(pair[1]))
        merges.push({ pair, score, left: ids.get(pair[0])!, right: ids.get(pair[1])! });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.left - b.left || a.right - b.right);
  return {
    type: "BPE",
    unk_token: pieces[unknown].text,
    fuse_unk: true,
    byte_fallback: hasBytes(pieces),
    vocab: Object.fromEntries(ids),
    merges: merges.map(({ pair }) => pair),
  };
}

function unigram(pieces: readonly Piece[], unknown: number): TokenizerJson["model"] {
  return {
    type: "Unigram",
    unk_id: unknown,
    byte_fallback: hasBytes(pieces),
    vocab: pieces.map(({ text, score }): [string, number] => [text, score]),
  };
}

/** Whether each byte has a piece, so that unknown characters can be written in bytes. */
const hasBytes = (pieces: readonly Piece[]): boolean =>
  pieces.filter(({ type }) => type === BYTE).length === 256 && pieces.some(({ text }) => text === byteToken(0));

const base64 = (bytes: Uint8Array): string => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
