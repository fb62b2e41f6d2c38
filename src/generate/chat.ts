/** Chat: from messages with images to text, by a folder's chat template or the papers' conversation templates. */

import {
  anyresTiles,
  completePreprocessor,
  type Image,
  type PreprocessorConfig,
  preprocess,
  type Size,
} from "../image/index.ts";
import { type FileSource, readJson } from "../io/index.ts";
import { tensor } from "../ops/functional.ts";
import {
  checkTokenizer,
  IMAGE_TOKEN,
  IMAGE_TOKEN_INDEX,
  loadTokenizer,
  promptIds,
  type Tokenizer,
  template,
} from "../text/index.ts";
import { generateText } from "./generate.ts";
import type { ImageTextModel, ModelInputs } from "./model.ts";
import type { GenerateOptions } from "./options.ts";

export interface ChatMessage {
  role: "user" | "assistant";
  /** Text, or texts and images in order. */
  content: string | readonly (string | Image)[];
}

export interface ChatOptions extends GenerateOptions {
  /** Name of a conversation template. Default: the folder's chat template, else that of the model. */
  template?: string;
}

/** Settings of the inputs in a checkpoint's config.json. */
export interface ProcessorOptions {
  /** "pad" pads images to squares of the mean colour first, "resize" stretches them. */
  aspect?: "pad" | "resize";
  /** Images stand between `<im_start>` and `<im_end>`. */
  imStartEnd?: boolean;
  /** LLaVA-NeXT: resolutions [height, width] for the tiles of an image. Default: those of the image settings. */
  pinpoints?: readonly Size[];
  /** Special tokens that the checkpoint's code adds to its tokenizer. */
  addedTokens?: readonly string[];
  /** Conversation template if the folder has no chat template. Default "vicuna_v1", that of LLaVA-1.5. */
  template?: string;
}

/** Makes model inputs from text and images: the tokenizer and the image settings of a checkpoint folder. */
export class Processor {
  constructor(
    readonly tokenizer: Tokenizer,
    readonly images: PreprocessorConfig,
    readonly options: ProcessorOptions = {},
  ) {}

  /**
   * Reads the tokenizer and preprocessor_config.json. Returns undefined if there is no tokenizer.
   * @param images settings for folders without preprocessor_config.json
   * @throws if the tokenizer has more ids than the model's `vocab_size`.
   */
  static async open(
    source: FileSource,
    text: { vocab_size: number },
    images: PreprocessorConfig,
    options: ProcessorOptions = {},
  ): Promise<Processor | undefined> {
    const plain = await loadTokenizer(source);
    if (!plain) return undefined;
    const tokenizer = options.addedTokens ? plain.withTokens(...options.addedTokens) : plain;
    checkTokenizer(source, tokenizer, text);
    const known = (await source.size("preprocessor_config.json")) !== undefined;
    return new Processor(tokenizer, known ? await readJson(source, "preprocessor_config.json") : images, options);
  }

  /** One conversation as a batch of one, with `imageToken` for each image. For templates see `ChatOptions`. */
  encode(messages: readonly ChatMessage[], templateName?: string, imageToken?: number): ModelInputs {
    return this.input(chatPrompt(this.tokenizer, messages, templateName, this.options), imageToken);
  }

  /** Model inputs of a prompt, or of the end of one. */
  input({ ids, images }: Pick<ChatPrompt, "ids" | "images">, imageToken: number = IMAGE_TOKEN_INDEX): ModelInputs {
    return {
      inputIds: tensor([ids.map((id) => (id === IMAGE_TOKEN_INDEX ? imageToken : id))], { dtype: "i32" }),
      ...(images.length && this.inputs(images)),
    };
  }

  get #pinpoints(): readonly Size[] | undefined {
    return this.options.pinpoints ?? this.images.image_grid_pinpoints;
  }

  /** Pixel values [3, H, W] of an image, or of each of its tiles. */
  pixels(image: Image): ReturnType<typeof preprocess>[] {
    const { crop, filter } = completePreprocessor(this.images);
    const tiles = this.#pinpoints ? anyresTiles(image, this.#pinpoints, crop.height, filter) : [image];
    return tiles.map((tile) => preprocess(tile, this.images, this.options.aspect));
  }

  /** Images, or their tiles, as pixel values [N, 3, H, W]. */
  inputs(images: readonly Image[]): Pick<ModelInputs, "pixelValues" | "imageSizes"> {
    const done = images.flatMap((image) => this.pixels(image));
    const [{ width, height }] = done;
    const data = new Float32Array(done.length * 3 * width * height);
    done.forEach((image, i) => data.set(image.data, i * 3 * width * height));
    return {
      pixelValues: tensor(data, { shape: [done.length, 3, height, width] }),
      imageSizes: this.#pinpoints && images.map((image) => [image.height, image.width]),
    };
  }
}

/** A conversation as token ids, to be answered. */
export interface ChatPrompt {
  /** Token ids, with `IMAGE_TOKEN_INDEX` for each image. */
  readonly ids: readonly number[];
  readonly images: readonly Image[];
  /** Strings that end the answer, besides the model's end token. */
  readonly stopStrings: readonly string[];
}

/**
 * The prompt of a conversation, by the template `name`, else by the tokenizer's chat template, else by that of the model.
 * @param reader options of the processor, for a model that reads images; absent for a language model alone
 */
export function chatPrompt(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  name: string | undefined,
  reader?: ProcessorOptions,
): ChatPrompt {
  if (name === undefined && tokenizer.config.chat_template) return byChatTemplate(tokenizer, messages, !!reader);
  const chosen = template(name ?? reader?.template ?? "vicuna_v1");
  const { texts, images, begun } = textsOf(messages, `${IMAGE_TOKEN}\n`);
  const { style, sep, sep2 } = chosen;
  const stop = style === "single" || style === "mpt" ? sep : sep2;
  return {
    ids: promptIds(tokenizer, chosen, [...texts, null], { ...reader, begun }),
    images,
    stopStrings: stop === undefined ? [] : [stop],
  };
}

/** The prompt by the Jinja template of the tokenizer or the processor. */
function byChatTemplate(tokenizer: Tokenizer, messages: readonly ChatMessage[], readsImages: boolean): ChatPrompt {
  const source = JSON.stringify(tokenizer.config.chat_template);
  const typed = /\btype\b/.test(source); // content in parts, as { type: "image" }
  // A template may write the image token itself.
  const { texts, images, begun } = textsOf(messages, source.includes(IMAGE_TOKEN) ? "" : `${IMAGE_TOKEN}\n`);
  const parts = ({ content }: ChatMessage) =>
    (typeof content === "string" ? [content] : content).map((part) =>
      typeof part === "string" ? { type: "text", text: part } : { type: "image" },
    );
  const text = tokenizer.applyChatTemplate(
    texts.map((said, i) => ({ role: messages[i].role, content: typed ? parts(messages[i]) : said })),
    { addGenerationPrompt: true },
  );
  const pieces = (text + begun).split(IMAGE_TOKEN).map((piece) => tokenizer.encode(piece, { addSpecialTokens: false }));
  if (pieces.length - 1 !== images.length)
    throw new Error(
      `chat: the model's chat template has room for ${pieces.length - 1} image(s), the conversation has ${images.length}`,
    );
  // As transformers: a language model's template writes its begin token; a processor adds it if the template does not.
  const begin = tokenizer.encode("");
  const begins = !readsImages || begin.every((id, i) => pieces[0][i] === id);
  const ids = pieces.flatMap((piece, i) => (i ? [IMAGE_TOKEN_INDEX, ...piece] : piece));
  return { ids: begins ? ids : [...begin, ...ids], images, stopStrings: [] };
}

/**
 * Texts of a conversation, with `placeholder` for each image. If the last message is by the assistant, it is the beginning of the
 * answer: its text is `begun` and not among the texts.
 * @throws if user and assistant do not alternate, or a text contains an image token
 */
function textsOf(
  messages: readonly ChatMessage[],
  placeholder: string,
): { texts: string[]; images: Image[]; begun: string } {
  const images: Image[] = [];
  const texts = messages.map(({ role, content }, i) => {
    const expected = i % 2 ? "assistant" : "user";
    if (role !== expected)
      throw new Error(
        `chat: message ${i} is by the ${role}, expected the ${expected}: they take turns, the user begins`,
      );
    const parts = typeof content === "string" ? [content] : content;
    const written = parts.filter((part) => typeof part === "string" && part.includes(IMAGE_TOKEN)).length;
    const given = parts.filter((part) => typeof part !== "string").length;
    if (written)
      throw new Error(
        `chat: ${written} ${IMAGE_TOKEN} in the texts for ${given} images: give images as parts of the content`,
      );
    return parts.map((part) => (typeof part === "string" ? part : (images.push(part), placeholder))).join("");
  });
  if (texts.length === 0) throw new Error("chat: there are no messages");
  return { texts, images, begun: texts.length % 2 ? "" : texts.pop()! };
}

/** Yields the answer to the last message, or the rest of the answer that it begins, in pieces as they are generated. */
export async function* chat(
  model: ImageTextModel,
  processor: Processor,
  messages: readonly ChatMessage[],
  { template: name, ...options }: ChatOptions = {},
): AsyncGenerator<string> {
  const { tokenizer } = processor;
  const asked = chatPrompt(tokenizer, messages, name, processor.options);
  const prompt = model.prompt(processor.input(asked, model.imageToken));
  yield* generateText(model.language_model, tokenizer, prompt, { stopStrings: asked.stopStrings, ...options });
}
