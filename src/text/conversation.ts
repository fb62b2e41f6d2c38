import type { Tokenizer } from "./tokenizer.ts";

/**
 * Conversation templates and their label masks: LLaVA's (haotian-liu/LLaVA: conversation.py, train.py, mm_utils.py),
 * mPLUG-Owl's (X-PLUG/mPLUG-Owl) and Chinese-LLaVA's two (LinkSoul-AI/Chinese-LLaVA: infer_tokenize.py).
 */
export interface Template {
  style: "single" | "two" | "mpt" | "llama2" | "plain" | "owl" | "chinese_llama2" | "baichuan";
  system: string;
  /** Names of the two speakers: who asks, who answers. */
  roles: readonly [string, string];
  sep: string;
  sep2?: string;
  /** Wraps images as `<Image><image></Image>`. */
  imageTags?: boolean;
  /** Position of the images of a message in a prompt. Default: where they are written. */
  images?: "before" | "own message" | "after";
}

/** One message; `null` (or "", as in the reference) is the open one, which the model writes. */
export type Message = string | null;
export interface Turn {
  from: "human" | "gpt";
  value: string;
}
/** Token ids with one `IMAGE_TOKEN_INDEX` per image. Labels are `IGNORE_INDEX` where nothing is learned. */
export interface TrainingSample {
  inputIds: number[];
  labels: number[];
  prompt: string;
}

export const IGNORE_INDEX = -100;
export const IMAGE_TOKEN_INDEX = -200;
export const IMAGE_TOKEN = "<image>";

const helpful = (human: string): string =>
  `A chat between a curious ${human} and an artificial intelligence assistant. ` +
  `The assistant gives helpful, detailed, and polite answers to the ${human}'s questions.`;
const visual =
  "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, " +
  "and assist the user with a variety of tasks using natural language.";
const tagged =
  "A chat between a curious user and an artificial intelligence assistant. The assistant is able to understand the visual content that the user provides, " +
  "and assist the user with a variety of tasks using natural language.The visual content will be provided with the following format: <Image>visual content</Image>.";
const safe =
  "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  " +
  "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. " +
  "Please ensure that your responses are socially unbiased and positive in nature.\n\n" +
  "If a question does not make any sense, or is not factually coherent, explain why instead of answering something not correct. " +
  "If you don't know the answer to a question, please don't share false information.";

const users = ["USER", "ASSISTANT"] as const;
const v0: Template = { style: "single", system: helpful("human"), roles: ["Human", "Assistant"], sep: "###" };
const v1: Template = { style: "two", system: helpful("user"), roles: users, sep: " ", sep2: "</s>" };
const llama2: Template = { style: "llama2", system: safe, roles: users, sep: "<s>", sep2: "</s>" };
const mpt: Template = {
  style: "mpt",
  system:
    "<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers.",
  roles: ["<|im_start|>user\n", "<|im_start|>assistant\n"],
  sep: "<|im_end|>",
};

const plain: Template = { style: "plain", system: "", roles: ["", ""], sep: "\n" };

/** Templates by their names in the papers' scripts. */
export const templates: Readonly<Record<string, Template>> = {
  default: v0,
  plain,
  v0_plain: plain,
  v0,
  llava_v0: v0,
  v0_mmtag: { ...v0, system: tagged, imageTags: true },
  v1,
  vicuna_v1: v1,
  llava_v1: { ...v1, system: helpful("human") },
  v1_mmtag: { ...v1, system: tagged, imageTags: true },
  llama_2: llama2,
  llava_llama_2: { ...llama2, system: visual },
  mistral_instruct: { ...llama2, system: "", sep: "" },
  mpt,
  chatml_direct: { ...mpt, system: "<|im_start|>system\nAnswer the questions." },
  mplug_owl: {
    style: "owl",
    system:
      "The following is a conversation between a curious human and AI assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.",
    roles: ["Human", "AI"],
    sep: "\n",
    sep2: "</s>",
    images: "own message",
  },
  mplug_owl2: { ...v1, system: "", images: "before" },
  chinese_llama2: { style: "chinese_llama2", system: visual, roles: users, sep: "", sep2: "</s>", images: "after" },
  chinese_baichuan: { style: "baichuan", system: visual, roles: users, sep: "", sep2: "</s>", images: "after" },
};

/** The template named `name`. @throws listing the known names. */
export function template(name: string): Template {
  const found = templates[name];
  if (!found) throw new Error(`conversation: no template "${name}"; there are ${Object.keys(templates).join(", ")}`);
  return found;
}

/** The prompt of `messages`, which alternate between the speakers. A last `null` leaves the answer open. */
export function renderPrompt(t: Template, messages: readonly Message[]): string {
  const said = (i: number, between: string, end: string): string =>
    !messages[i] ? t.roles[i % 2] + between.trimEnd() : t.roles[i % 2] + between + messages[i] + end;
  const each = (f: (i: number) => string): string => messages.map((_, i) => f(i)).join("");
  switch (t.style) {
    case "single":
      return t.system + t.sep + each((i) => said(i, ": ", t.sep));
    case "two":
      return (t.system && t.system + t.sep) + each((i) => said(i, ": ", i % 2 ? t.sep2! : t.sep));
    case "mpt":
      return t.system + t.sep + each((i) => said(i, "", t.sep));
    case "plain":
      return each((i) => (messages[i] ? messages[i] + t.sep : ""));
    case "owl":
      return t.system + each((i) => `\n${t.roles[i % 2]}: ${messages[i] ?? ""}`);
    case "chinese_llama2":
    case "baichuan":
      return turnPieces(t, messages)
        .map(({ text }) => text)
        .join("");
    case "llama2": {
      const text = each((i) => {
        if (!messages[i]) return "";
        if (i % 2) return ` ${messages[i]} ${t.sep2}`;
        const system = i === 0 && t.system ? `<<SYS>>\n${t.system}\n<</SYS>>\n\n` : "";
        return `${t.sep}[INST] ${system}${messages[i]} [/INST]`;
      });
      // The reference strips the characters of `sep` from the left, not the string.
      const start = [...text].findIndex((char) => !t.sep.includes(char));
      return text.slice(Math.max(0, start));
    }
  }
}

/** Ids of a prompt, with `IMAGE_TOKEN_INDEX` for each `<image>`. Only the first piece keeps its begin token. */
export function tokenizePrompt(tokenizer: Tokenizer, prompt: string): number[] {
  const pieces = prompt.split(IMAGE_TOKEN).map((piece) => tokenizer.encode(piece));
  const begin = tokenizer.encode("");
  return pieces.flatMap((ids, i) => (i === 0 ? ids : [IMAGE_TOKEN_INDEX, ...ids.slice(begin.length)]));
}

export interface PromptOptions {
  /** Write `<im_start>` and `<im_end>` around images (`mm_use_im_start_end` in config.json). */
  imStartEnd?: boolean;
  /** Beginning of the open answer, written after the prompt as is. */
  begun?: string;
}

const wrapImages = (text: string, { imStartEnd }: PromptOptions): string =>
  imStartEnd ? text.replaceAll(IMAGE_TOKEN, `<im_start>${IMAGE_TOKEN}<im_end>`) : text;

/** Ids of a conversation to continue, equal to those of the template's own code: with image tokens and begin tokens. */
export function promptIds(
  tokenizer: Tokenizer,
  t: Template,
  messages: readonly Message[],
  options: PromptOptions = {},
): number[] {
  const { begun = "" } = options;
  const placed = messages.map((message) => message && wrapImages(placeImages(t, message), options));
  return t.style === "chinese_llama2" || t.style === "baichuan"
    ? joinPieces(tokenizer, [...turnPieces(t, placed), { text: begun }]).inputIds
    : tokenizePrompt(tokenizer, renderPrompt(t, placed) + begun);
}

/** Moves the images of a message to the position that the template requires. */
function placeImages(t: Template, text: string): string {
  const images = text.split(IMAGE_TOKEN).length - 1;
  if (images === 0 || !t.images) return text;
  const rest = text.replaceAll(IMAGE_TOKEN, "").trim();
  if (t.images === "after") return `${rest}\n${IMAGE_TOKEN.repeat(images)}`;
  return (t.images === "before" ? IMAGE_TOKEN : `${IMAGE_TOKEN}\n${t.roles[0]}: `).repeat(images) + rest;
}

/** A part of a conversation that is tokenised separately. */
interface Piece {
  text: string;
  /** Add the begin token before it, the end token after it. */
  begin?: boolean;
  end?: boolean;
  learned?: boolean;
}

/** Chinese-LLaVA's pieces: question (with its begin token) and answer, or role and text of each message. */
function turnPieces(t: Template, messages: readonly Message[]): Piece[] {
  if (t.style === "chinese_llama2") {
    return messages.flatMap((message, i): Piece[] => {
      const text = ((i === 0 ? `<<SYS>>\n${t.system}\n<</SYS>>\n\n` : "") + (message ?? "")).trim();
      if (i % 2 === 0) return [{ text: `[INST] ${text} [/INST] `, begin: true }];
      return text ? [{ text: `${text} `, end: true, learned: true }] : [];
    });
  }
  const turns = messages.flatMap((message, i): Piece[] => {
    const text = (message ?? "").trim();
    const answer = i % 2 === 1;
    return [{ text: `${t.roles[i % 2]}:` }, { text: answer && text ? text + t.sep2 : text, learned: answer }];
  });
  return [{ text: t.system, begin: true }, ...turns];
}

/** mPLUG-Owl's pieces of a training text, which is cut at images, at "AI: " and at "\nHuman: ". Pieces keep these marks. */
function owlPieces(text: string): Piece[] {
  const chunks = text.split(/(<image>|AI: |\nHuman: )/);
  const kept = text.includes(IMAGE_TOKEN) ? chunks.filter((chunk) => chunk !== "") : chunks; // as the reference does
  return kept.map((chunk, i) => {
    const learned = kept[i - 1] === "AI: " && chunk !== IMAGE_TOKEN;
    return { text: chunk, begin: i === 0, end: learned, learned };
  });
}

/** Ids of all pieces in order; labels for the learned ones. */
function joinPieces(tokenizer: Tokenizer, pieces: readonly Piece[]): { inputIds: number[]; labels: number[] } {
  const [begin, end] = [tokenizer.encode(""), tokenizer.tokenToId("</s>")];
  if (end === undefined) throw new Error('conversation: the tokenizer has no end token "</s>"');
  const inputIds: number[] = [];
  const labels: number[] = [];
  for (const piece of pieces) {
    const texts = piece.text.split(IMAGE_TOKEN).map((text) => tokenizer.encode(text, { addSpecialTokens: false }));
    const ids = texts.flatMap((part, i) => (i ? [IMAGE_TOKEN_INDEX, ...part] : part));
    const all = [...(piece.begin ? begin : []), ...ids, ...(piece.end ? [end] : [])];
    inputIds.push(...all);
    labels.push(...(piece.learned ? all : all.map(() => IGNORE_INDEX)));
  }
  return { inputIds, labels };
}

/** A conversation as the text of one line of mPLUG-Owl's training data. Each image becomes a message of its own. */
export const owlText = (turns: readonly Turn[]): string =>
  renderPrompt(
    templates.mplug_owl,
    turns.map(({ value }) => placeImages(templates.mplug_owl, value)),
  );

/** A sample from the `text` of one line of mPLUG-Owl's training data, with "\nHuman: ", "\nAI: " and `<image>`. */
export const owlSample = (tokenizer: Tokenizer, text: string): TrainingSample => ({
  ...joinPieces(tokenizer, owlPieces(text)),
  prompt: text,
});

/** Moves `<image>` to the beginning of its message, as LLaVA's training does. */
function imageFirst(turn: Turn, tags: boolean | undefined): Turn {
  if (!turn.value.includes(IMAGE_TOKEN)) return turn;
  const value = `${IMAGE_TOKEN}\n${turn.value.replaceAll(IMAGE_TOKEN, "").trim()}`.trim();
  return { ...turn, value: tags ? value.replaceAll(IMAGE_TOKEN, `<Image>${IMAGE_TOKEN}</Image>`) : value };
}

export interface TrainingOptions extends PromptOptions {
  hasImage: boolean;
  /** Whether text after a special token gets the SentencePiece space prefix (`legacy` in tokenizer_config.json). */
  legacy?: boolean;
}

/**
 * Ids and labels of one training conversation, equal to LLaVA's token by token. Only answers, with the separator after them, are
 * learned. As in LLaVA, a sample is masked entirely if its pieces have more or fewer tokens than the whole.
 */
export function trainingSample(
  tokenizer: Tokenizer,
  t: Template,
  conversation: readonly Turn[],
  { hasImage, legacy = true, imStartEnd }: TrainingOptions,
): TrainingSample {
  if (conversation.length === 0) throw new Error("conversation: a training sample needs at least one turn");
  const own = t.style === "owl" || t.style === "chinese_llama2" || t.style === "baichuan";
  const placed = (turn: Turn): Turn =>
    own ? { ...turn, value: placeImages(t, turn.value) } : imageFirst(turn, t.imageTags);
  let turns = [...conversation];
  if (hasImage) turns = turns.map(placed).map((turn) => ({ ...turn, value: wrapImages(turn.value, { imStartEnd }) }));
  const encode = (text: string): number[] => (hasImage ? tokenizePrompt(tokenizer, text) : tokenizer.encode(text));
  if (t.style === "plain") return plainSample(encode, t, turns);
  if (t.style === "single") return singleSample(encode, t, turns);
  if (turns[0].from !== "human") turns = turns.slice(1);
  turns.forEach((turn, i) => {
    if (turn.from !== (i % 2 ? "gpt" : "human"))
      throw new Error(`conversation: turn ${i} is from ${turn.from}, expected ${i % 2 ? "gpt" : "human"}`);
  });
  const messages = turns.map((turn) => turn.value);
  const prompt = renderPrompt(t, messages);
  if (t.style === "owl") return owlSample(tokenizer, prompt);
  if (own) return { ...joinPieces(tokenizer, turnPieces(t, messages)), prompt };
  return roundsSample(encode, t, prompt, legacy);
}

/** `plain` (stage 1): the image and its caption, no roles. */
function plainSample(encode: (text: string) => number[], t: Template, turns: Turn[]): TrainingSample {
  if (turns.length !== 2 || !turns[0].value.includes(IMAGE_TOKEN)) {
    throw new Error("conversation: the plain template takes an image turn and its caption");
  }
  const prompt = IMAGE_TOKEN + turns[1].value + t.sep;
  const inputIds = encode(prompt);
  const masked = encode(IMAGE_TOKEN).length;
  return { inputIds, labels: inputIds.map((id, i) => (i < masked ? IGNORE_INDEX : id)), prompt };
}

/** `v0`: lines "### Role: text". As in the reference, the two tokens of "###" before each message are learned. */
function singleSample(encode: (text: string) => number[], t: Template, turns: Turn[]): TrainingSample {
  const header = `${t.system}\n\n`;
  const lines = turns.map((turn) => `### ${t.roles[turn.from === "human" ? 0 : 1]}: ${turn.value}\n`);
  const prompt = `${header}${lines.join("")}### `;
  const inputIds = encode(prompt);
  const labels = [...inputIds];
  let at = encode(header).length;
  labels.fill(IGNORE_INDEX, 0, at);
  lines.forEach((line, i) => {
    const length = encode(line).length;
    if (turns[i].from === "human") labels.fill(IGNORE_INDEX, at + 2, at + length);
    at += length;
  });
  return { inputIds, labels, prompt };
}

/** `v1`, `llama_2`, `mpt`: rounds of question and answer. Lengths are those of the rounds tokenised separately. */
function roundsSample(
  encode: (text: string) => number[],
  t: Template,
  prompt: string,
  legacy: boolean,
): TrainingSample {
  const inputIds = encode(prompt);
  const labels = [...inputIds];
  const answer = t.style === "two" ? `${t.sep}${t.roles[1]}: ` : t.style === "mpt" ? t.sep + t.roles[1] : "[/INST] ";
  let rounds = prompt.split(t.style === "mpt" ? t.sep : t.sep2!);
  if (t.style === "mpt") rounds = mptRounds(rounds, t.sep);
  let at = t.style === "mpt" ? 0 : 1; // the begin token
  labels.fill(IGNORE_INDEX, 0, at);
  for (const [i, round] of rounds.entries()) {
    const parts = round.split(answer);
    if (round === "" || parts.length !== 2) break;
    let length = encode(round).length;
    // SentencePiece joins the space that ends the separator to the next word: one token less. The other is the begin token.
    let question = encode(parts[0] + answer).length - (t.style === "mpt" ? 1 : 2);
    if (i > 0 && t.style === "two" && !legacy) (length -= 1), (question -= 1);
    if (i > 0 && t.style === "mpt" && legacy) (length += 1), (question += 1);
    labels.fill(IGNORE_INDEX, at, at + question);
    at += length;
  }
  labels.fill(IGNORE_INDEX, at);
  if (at !== inputIds.length) labels.fill(IGNORE_INDEX);
  return { inputIds, labels, prompt };
}

/** The first round is system message, question and answer; each further one is two pieces. */
function mptRounds(pieces: string[], sep: string): string[] {
  const rounds = [pieces.slice(0, 3).join(sep)];
  for (let i = 3; i < pieces.length; i += 2) rounds.push(pieces.slice(i, i + 2).join(sep));
  return rounds;
}
