/** Chat: messages with images in, text out, by the conversation templates of LLaVA. */
import type { FileSource } from "../src/io/index.ts";
import { readJson } from "../src/io/source.ts";
import { tensor } from "../src/tensor.ts";
import { anyresTiles, type Size } from "./anyres.ts";
import { IMAGE_TOKEN, IMAGE_TOKEN_INDEX, promptIds, template } from "./conversation.ts";
import { generateText } from "./generate.ts";
import { completePreprocessor, type Image, type PreprocessorConfig, preprocess } from "./image.ts";
import { loadTokenizer } from "./load.ts";
import type { GenerateOptions } from "./options.ts";
import type { Tokenizer } from "./tokenizer.ts";
import type { VisionLanguageInput, VisionLanguageModel } from "./vlm.ts";

export interface ChatMessage {
  role: "user" | "assistant";
  /** Text, or texts and images in their order. */
  content: string | readonly (string | Image)[];
}

export interface ChatOptions extends GenerateOptions {
  /** Name of a conversation template. Default "vicuna_v1", that of LLaVA-1.5. */
  template?: string;
}

/** What a checkpoint's config.json says of its inputs. */
export interface ProcessorOptions {
  /** "pad" squares images on the mean colour first, "resize" stretches them. */
  aspect?: "pad" | "resize";
  /** Images stand between `<im_start>` and `<im_end>`. */
  imStartEnd?: boolean;
  /** Resolutions [height, width] that images are cut into tiles at (LLaVA-NeXT). Default: those of the image settings. */
  pinpoints?: readonly Size[];
  /** Special tokens that the code of the checkpoint adds to its tokenizer. */
  addedTokens?: readonly string[];
}

/** What turns text and images into model inputs: the tokenizer and the image settings of a checkpoint folder. */
export class Processor {
  constructor(
    readonly tokenizer: Tokenizer,
    readonly images: PreprocessorConfig,
    readonly options: ProcessorOptions = {},
  ) {}

  /** Reads the tokenizer and, where there is one, preprocessor_config.json; undefined without a tokenizer. */
  static async open(
    source: FileSource,
    imageSize: number,
    options: ProcessorOptions = {},
  ): Promise<Processor | undefined> {
    const plain = await loadTokenizer(source);
    if (!plain) return undefined;
    const tokenizer = options.addedTokens ? plain.withTokens(...options.addedTokens) : plain;
    const known = (await source.size("preprocessor_config.json")) !== undefined;
    const images = known
      ? await readJson(source, "preprocessor_config.json")
      : { size: imageSize, crop_size: imageSize };
    return new Processor(tokenizer, images, options);
  }

  /** One conversation as a batch of one, `imageToken` standing for each image. */
  encode(messages: readonly ChatMessage[], templateName: string, imageToken: number): VisionLanguageInput {
    const { texts, images } = textsOf(messages, `${IMAGE_TOKEN}\n`);
    const ids = promptIds(this.tokenizer, template(templateName), [...texts, null], this.options);
    return {
      inputIds: tensor([ids.map((id) => (id === IMAGE_TOKEN_INDEX ? imageToken : id))], { dtype: "i32" }),
      ...(images.length && this.inputs(images)),
    };
  }

  /** Images, or their tiles, as pixel values [N, 3, H, W]. */
  inputs(images: readonly Image[]): Pick<VisionLanguageInput, "pixelValues" | "imageSizes"> {
    const { pinpoints = this.images.image_grid_pinpoints, aspect } = this.options;
    const { crop, filter } = completePreprocessor(this.images);
    const tiles = pinpoints ? images.flatMap((image) => anyresTiles(image, pinpoints, crop.height, filter)) : images;
    const done = tiles.map((image) => preprocess(image, this.images, aspect));
    const [{ width, height }] = done;
    const data = new Float32Array(done.length * 3 * width * height);
    done.forEach((image, i) => data.set(image.data, i * 3 * width * height));
    return {
      pixelValues: tensor(data, { shape: [done.length, 3, height, width] }),
      imageSizes: pinpoints && images.map((image) => [image.height, image.width]),
    };
  }
}

/**
 * What a conversation says, `placeholder` where an image stands.
 * @throws if the user and the assistant do not take turns, or a text has an image token of its own.
 */
export function textsOf(messages: readonly ChatMessage[], placeholder: string): { texts: string[]; images: Image[] } {
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
  if (texts.length % 2 === 0) throw new Error("chat: the last message must be the user's");
  return { texts, images };
}

/** What ends an answer by a conversation template. */
export function stopStringsOf(templateName: string): string[] {
  const { style, sep, sep2 } = template(templateName);
  return [style === "single" || style === "mpt" ? sep : sep2].filter((s) => s !== undefined);
}

/** The answer to the last message, in pieces as it is generated. */
export async function* chat(
  model: VisionLanguageModel,
  processor: Processor,
  imageToken: number,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): AsyncGenerator<string> {
  const { template: name = "vicuna_v1", ...generation } = options;
  const prompt = model.prompt(processor.encode(messages, name, imageToken));
  yield* generateText(model.language_model, processor.tokenizer, prompt, {
    stopStrings: stopStringsOf(name),
    ...generation,
  });
}
