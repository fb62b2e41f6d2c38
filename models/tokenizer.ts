/** The parts of a Hugging Face `tokenizer.json` that BPE models of the GPT-2, LLaMA and Qwen families use. */
export interface TokenizerJson {
  version?: string;
  added_tokens?: {
    id: number;
    content: string;
    special?: boolean;
    lstrip?: boolean;
    rstrip?: boolean;
    normalized?: boolean;
  }[];
  normalizer?: Component | null;
  pre_tokenizer?: Component | null;
  post_processor?: Component | null;
  decoder?: Component | null;
  model: {
    type?: string;
    vocab: Record<string, number>;
    merges: (string | [string, string])[];
    unk_token?: string | null;
    byte_fallback?: boolean;
    fuse_unk?: boolean;
    ignore_merges?: boolean;
  };
  [key: string]: unknown;
}
type Component = { type: string; [key: string]: any };

export interface EncodeOptions {
  /** Apply the post-processor of the file (for LLaMA: put `<s>` first). Default true. */
  addSpecialTokens?: boolean;
}
export interface DecodeOptions {
  /** Leave special tokens out of the text. Default true. */
  skipSpecialTokens?: boolean;
}

export const GPT2_PATTERN = "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const utf8 = new TextEncoder();

/** GPT-2's printable stand-ins: byte -> character. Bytes that print as themselves keep their character. */
export const byteToChar: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => {
    const prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    return String.fromCharCode(prints ? b : next++);
  });
})();
const charToByte = new Map(byteToChar.map((char, byte) => [char, byte]));
const toByteLevel = (text: string): string => Array.from(utf8.encode(text), (byte) => byteToChar[byte]).join("");

/**
 * A BPE tokenizer read from `tokenizer.json`: byte-level (GPT-2, LLaMA-3, Qwen) or SentencePiece style with byte
 * fallback (LLaMA-1/2). Ids equal those of Hugging Face tokenizers.
 */
export class Tokenizer {
  /** Number of ids, special tokens included. */
  readonly size: number;
  private readonly vocab: Map<string, number>;
  private readonly tokens: string[] = [];
  private readonly special = new Set<number>();
  private readonly added = new Map<string, number>();
  private readonly addedPattern: RegExp | null;
  /** left id * 2^26 + right id -> rank and merged id. */
  private readonly merges = new Map<number, { rank: number; id: number }>();
  private readonly normalize: (text: string) => string;
  private readonly preTokenize: (pieces: string[], first: boolean) => string[];
  private readonly byteLevel: boolean;
  private readonly prefixIds: number[] = [];
  private readonly suffixIds: number[] = [];
  private readonly stripLeadingSpace: boolean;
  private readonly cache = new Map<string, number[]>();

  /** @throws if the file is not a BPE tokenizer or names a normalizer or pre-tokenizer that is not supported. */
  constructor(readonly json: TokenizerJson) {
    const { model } = json;
    if (!model?.vocab || !model.merges || (model.type && model.type !== "BPE")) {
      throw new Error(`tokenizer: expected a tokenizer.json with a BPE model, got ${model?.type ?? "no model"}`);
    }
    this.vocab = new Map(Object.entries(model.vocab));
    for (const [token, id] of this.vocab) this.tokens[id] = token;
    for (const { id, content, special } of json.added_tokens ?? []) {
      this.tokens[id] = content;
      this.added.set(content, id);
      if (special) this.special.add(id);
    }
    this.size = this.tokens.length;
    const escaped = [...this.added.keys()]
      .sort((a, b) => b.length - a.length)
      .map((t) => t.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
    this.addedPattern = escaped.length ? new RegExp(`(${escaped.join("|")})`) : null;
    model.merges.forEach((merge, rank) => {
      const [left, right] = typeof merge === "string" ? merge.split(" ") : merge;
      const [l, r, id] = [this.vocab.get(left), this.vocab.get(right), this.vocab.get(left + right)];
      if (l === undefined || r === undefined || id === undefined)
        throw new Error(`tokenizer: merge "${left} ${right}" is not in the vocabulary`);
      this.merges.set(l * 2 ** 26 + r, { rank, id });
    });
    this.normalize = normalizer(json.normalizer);
    this.preTokenize = preTokenizer(json.pre_tokenizer);
    this.byteLevel = JSON.stringify(json.pre_tokenizer ?? null).includes('"ByteLevel"');
    this.stripLeadingSpace = !this.byteLevel && /"Strip"|"Metaspace"/.test(JSON.stringify(json.decoder ?? null));
    this.readPostProcessor(json.post_processor);
  }

  private readPostProcessor(post: Component | null | undefined): void {
    if (post?.type === "Sequence") for (const each of post.processors) this.readPostProcessor(each);
    if (post?.type !== "TemplateProcessing") return;
    let ids = this.prefixIds;
    for (const item of post.single) {
      if (item.Sequence) ids = this.suffixIds;
      else ids.push(...post.special_tokens[item.SpecialToken.id].ids);
    }
  }

  /** Id of a token as the vocabulary spells it, or undefined. */
  tokenToId(token: string): number | undefined {
    return this.added.get(token) ?? this.vocab.get(token);
  }

  /** The vocabulary's spelling of an id. */
  idToToken(id: number): string {
    const token = this.tokens[id];
    if (token === undefined) throw new Error(`tokenizer: id ${id} is outside the vocabulary of ${this.size}`);
    return token;
  }

  /** This tokenizer with `tokens` as further special ones; those it lacks get the ids behind its own, in order. */
  withTokens(...tokens: string[]): Tokenizer {
    const fresh = tokens.filter((token) => this.tokenToId(token) === undefined);
    const added = fresh.map((content, i) => ({ id: this.size + i, content, special: true }));
    return new Tokenizer({ ...this.json, added_tokens: [...(this.json.added_tokens ?? []), ...added] });
  }

  isSpecial(id: number): boolean {
    return this.special.has(id);
  }

  /** Ids of `text`; special tokens written in the text become their ids. */
  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    const ids = addSpecialTokens ? [...this.prefixIds] : [];
    const parts = this.addedPattern ? text.split(this.addedPattern) : [text];
    parts.forEach((part, i) => {
      if (part === "") return;
      if (i % 2 === 1) {
        ids.push(this.added.get(part)!);
        return;
      }
      for (const piece of this.preTokenize([this.normalize(part)], i === 0)) ids.push(...this.encodePiece(piece));
    });
    if (addSpecialTokens) ids.push(...this.suffixIds);
    return ids;
  }

  private encodePiece(piece: string): number[] {
    const known = this.cache.get(piece);
    if (known) return known;
    const whole = this.json.model.ignore_merges ? this.vocab.get(piece) : undefined;
    const ids = whole === undefined ? mergePairs(this.symbols(piece), this.merges) : [whole];
    if (piece.length < 64) {
      if (this.cache.size >= 50_000) this.cache.clear();
      this.cache.set(piece, ids);
    }
    return ids;
  }

  /** Ids of the characters of a piece, before any merge. */
  private symbols(piece: string): number[] {
    const { byte_fallback: fallback, unk_token: unk, fuse_unk: fuse } = this.json.model;
    const unkId = unk ? this.vocab.get(unk) : undefined;
    const ids: number[] = [];
    for (const char of piece) {
      const id = this.vocab.get(char);
      if (id !== undefined) {
        ids.push(id);
        continue;
      }
      const bytes = fallback
        ? Array.from(utf8.encode(char), (b) => this.vocab.get(`<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`))
        : [undefined];
      if (bytes.every((b) => b !== undefined)) ids.push(...(bytes as number[]));
      else if (unkId === undefined)
        throw new Error(`tokenizer: ${JSON.stringify(char)} is not in the vocabulary, and there is no unknown token`);
      else if (!fuse || ids[ids.length - 1] !== unkId) ids.push(unkId);
    }
    return ids;
  }

  /** UTF-8 bytes of one token; a character may be spread over several tokens. */
  private bytes(id: number): Uint8Array {
    const token = this.idToToken(id);
    if (this.added.has(token)) return utf8.encode(token);
    if (this.byteLevel) return Uint8Array.from(token, (char) => charToByte.get(char)!);
    const byte = /^<0x([0-9A-F]{2})>$/.exec(token);
    return byte ? Uint8Array.of(parseInt(byte[1], 16)) : utf8.encode(token.replaceAll("▁", " "));
  }

  /** Text of `ids`; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    const stream = this.stream(options);
    return ids.map((id) => stream.push(id)).join("") + stream.end();
  }

  /** Decodes ids as they come: `push` gives the text that is complete so far, never half a character. */
  stream({ skipSpecialTokens = true }: DecodeOptions = {}): { push(id: number): string; end(): string } {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    let first = this.stripLeadingSpace;
    return {
      push: (id) => {
        if (skipSpecialTokens && this.special.has(id)) return "";
        let bytes = this.bytes(id);
        if (first && bytes[0] === 32) bytes = bytes.subarray(1);
        first = false;
        return decoder.decode(bytes, { stream: true });
      },
      end: () => decoder.decode(),
    };
  }
}

/** Applies merges lowest rank first, leftmost first among equals: a heap of pairs over a linked list, O(n log n). */
function mergePairs(ids: number[], merges: Map<number, { rank: number; id: number }>): number[] {
  const n = ids.length;
  if (n < 2) return ids;
  const next = Int32Array.from({ length: n }, (_, i) => (i + 1 < n ? i + 1 : -1));
  const previous = Int32Array.from({ length: n }, (_, i) => i - 1);
  // A heap entry is rank * 2^20 + position where positions fit, so numbers compare as (rank, position).
  const span = 2 ** Math.ceil(Math.log2(n));
  const heap: number[] = [];
  const offer = (i: number): void => {
    const merge = next[i] >= 0 ? merges.get(ids[i] * 2 ** 26 + ids[next[i]]) : undefined;
    if (merge) heapPush(heap, merge.rank * span + i);
  };
  for (let i = 0; i < n; i++) offer(i);
  while (heap.length) {
    const entry = heapPop(heap);
    const i = entry % span;
    const merge = ids[i] >= 0 && next[i] >= 0 ? merges.get(ids[i] * 2 ** 26 + ids[next[i]]) : undefined;
    if (!merge || merge.rank !== (entry - i) / span) continue; // an older pair that is gone
    const gone = next[i];
    ids[i] = merge.id;
    ids[gone] = -1;
    next[i] = next[gone];
    if (next[i] >= 0) previous[next[i]] = i;
    offer(i);
    if (previous[i] >= 0) offer(previous[i]);
  }
  return ids.filter((id) => id >= 0);
}

function heapPush(heap: number[], value: number): void {
  let i = heap.push(value) - 1;
  for (let parent = (i - 1) >> 1; i > 0 && heap[parent] > value; i = parent, parent = (i - 1) >> 1)
    heap[i] = heap[parent];
  heap[i] = value;
}

function heapPop(heap: number[]): number {
  const top = heap[0];
  const last = heap.pop()!;
  const n = heap.length;
  let i = 0;
  for (let child = 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= last) break;
    heap[i] = heap[child];
    i = child;
  }
  if (n) heap[i] = last;
  return top;
}

function normalizer(spec: Component | null | undefined): (text: string) => string {
  if (!spec) return (text) => text;
  switch (spec.type) {
    case "Sequence": {
      const all = (spec.normalizers as Component[]).map(normalizer);
      return (text) => all.reduce((t, f) => f(t), text);
    }
    case "Prepend":
      return (text) => (text ? spec.prepend + text : text);
    case "Replace": {
      const pattern = spec.pattern.String !== undefined ? spec.pattern.String : regex(spec.pattern.Regex);
      return (text) => text.replaceAll(pattern, () => spec.content);
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD":
      return (text) => text.normalize(spec.type);
    case "Lowercase":
      return (text) => text.toLowerCase();
    default:
      throw new Error(`tokenizer: the normalizer ${spec.type} is not supported`);
  }
}

function preTokenizer(spec: Component | null | undefined): (pieces: string[], first: boolean) => string[] {
  if (!spec) return (pieces) => pieces;
  switch (spec.type) {
    case "Sequence": {
      const all = (spec.pretokenizers as Component[]).map(preTokenizer);
      return (pieces, first) => all.reduce((p, f) => f(p, first), pieces);
    }
    case "ByteLevel": {
      const pattern = spec.use_regex === false ? null : regex(GPT2_PATTERN);
      const prefix = spec.add_prefix_space
        ? (piece: string): string => (piece.startsWith(" ") ? piece : ` ${piece}`)
        : (piece: string): string => piece;
      return (pieces) =>
        pieces
          .map(prefix)
          .flatMap((piece) => (pattern ? isolate(piece, pattern) : [piece]))
          .map(toByteLevel);
    }
    case "Split": {
      if (spec.behavior !== "Isolated" || spec.invert)
        throw new Error(`tokenizer: Split is supported as Isolated only, got ${spec.behavior}`);
      const pattern = regex(spec.pattern.Regex ?? escapeRegex(spec.pattern.String));
      return (pieces) => pieces.flatMap((piece) => isolate(piece, pattern));
    }
    case "Digits": {
      const pattern = regex(spec.individual_digits ? "\\p{Nd}" : "\\p{Nd}+");
      return (pieces) => pieces.flatMap((piece) => isolate(piece, pattern));
    }
    case "Metaspace": {
      const mark: string = spec.replacement ?? "▁";
      const scheme: string = spec.prepend_scheme ?? (spec.add_prefix_space === false ? "never" : "always");
      return (pieces, first) =>
        pieces.flatMap((piece) => {
          let text = piece.replaceAll(" ", mark);
          if (text && !text.startsWith(mark) && (scheme === "always" || (scheme === "first" && first)))
            text = mark + text;
          return spec.split === false
            ? [text]
            : text.split(new RegExp(`(?=${escapeRegex(mark)})`, "u")).filter(Boolean);
        });
    }
    default:
      throw new Error(`tokenizer: the pre-tokenizer ${spec.type} is not supported`);
  }
}

const escapeRegex = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

/** Oniguruma patterns of published tokenizers as JavaScript ones: inline `(?i:…)` becomes character classes. */
export function regex(source: string): RegExp {
  const plain = source.replace(/\(\?i:([^()]*)\)/g, (_, body: string) => {
    return `(?:${body.replace(/[a-z]/gi, (c) => `[${c.toLowerCase()}${c.toUpperCase()}]`)})`;
  });
  return new RegExp(plain, "gu");
}

/** Matches and the text between them, in order. */
export function isolate(text: string, pattern: RegExp): string[] {
  const pieces: string[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > end) pieces.push(text.slice(end, match.index));
    if (match[0]) pieces.push(match[0]);
    end = match.index + match[0].length;
  }
  if (end < text.length) pieces.push(text.slice(end));
  return pieces;
}
