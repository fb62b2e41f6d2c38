/** Chat with the model of any folder, or with the result of a training recipe. */

import { type ChatMessage, type GenerateOptions, Processor } from "../../src/generate/index.ts";
import { type FileSource, openFolder, readJson } from "../../src/io/index.ts";
import { checkTokenizer, loadTokenizer } from "../../src/text/index.ts";
import type { LlavaLoadOptions } from "../checkpoints/llava.ts";
import { loadAdapter } from "../checkpoints/peft.ts";
import { loadProjector } from "../checkpoints/projector.ts";
import { LlamaForCausalLM } from "../llama.ts";
import { Llava } from "../llava.ts";
import { fromPretrained } from "../registry.ts";
import { openModel, type PlacedRecipe } from "../training/model.ts";
import { parseRecipe, type Recipe } from "../training/recipe.ts";
import { VisionLanguageModel } from "../vlm.ts";
import { ChatSession, type SessionParts } from "./session.ts";

export interface AssistantOptions extends LlavaLoadOptions {
  /** The model that a recipe's adapter or projector belongs to. Default: what log.json names, if it was trained here. */
  readonly base?: string | FileSource;
  /** A PEFT folder; its adapter is added to the model. */
  readonly adapter?: string | FileSource;
  /** Conversation template. Default: that of the training recipe, else the folder's chat template, else that of the model. */
  readonly template?: string;
}

export class Assistant {
  #first?: ChatMessage;
  #session?: ChatSession;

  constructor(
    readonly model: LlamaForCausalLM | VisionLanguageModel,
    readonly parts: SessionParts,
  ) {}

  /**
   * Opens a checkpoint folder, or the output_dir of a recipe that trained an adapter or a projector. The log.json there
   * names the model that it belongs to; a folder that was trained elsewhere, or on a model at a URL, needs `base`.
   */
  static async open(where: string | FileSource, options: AssistantOptions = {}): Promise<Assistant> {
    const source = await openFolder(where);
    const log = (await source.size(LOG)) === undefined ? undefined : await readJson(source, LOG);
    const recipe = log === undefined ? undefined : parseRecipe(log?.recipe, `${source.location}/${LOG}`);
    const whole = (await source.size("config.json")) !== undefined;
    if (!whole && !recipe)
      throw new Error(
        `${source.location} has no config.json, so it is no checkpoint, and no log.json, so it is not the result of a recipe`,
      );
    const { adapter, template = recipe && recipe.version !== "plain" ? recipe.version : undefined, ...load } = options;
    const opened = whole
      ? await openWhole(source, load, recipe)
      : await openTrained(source, load, await placed(source, log, recipe!, load));
    if (adapter) await loadAdapter(opened.model, adapter);
    opened.model.eval();
    return new Assistant(opened.model, { ...opened.parts, template });
  }

  session(): ChatSession {
    return new ChatSession(this.model, this.parts);
  }

  /** Answers a conversation, in pieces of text. Earlier messages of the same conversation are not computed again. */
  chat(messages: readonly ChatMessage[], options?: GenerateOptions): AsyncGenerator<string> {
    if (!this.#session || messages[0] !== this.#first) this.#session = this.session();
    this.#first = messages[0];
    return this.#session.answer(messages, options);
  }
}

type Opened = Pick<Assistant, "model" | "parts">;

async function openWhole(source: FileSource, options: LlavaLoadOptions, recipe?: Recipe): Promise<Opened> {
  const model = await fromPretrained(source, options);
  if (model instanceof VisionLanguageModel) {
    const { processor: found } = model;
    if (!found) throw new Error(`${source.location} has no tokenizer.json or tokenizer.model`);
    // A Hugging Face folder does not say that its images were padded.
    const aspect = recipe?.image_aspect_ratio === "pad" ? "pad" : found.options.aspect;
    return { model, parts: { processor: new Processor(found.tokenizer, found.images, { ...found.options, aspect }) } };
  }
  if (!(model instanceof LlamaForCausalLM))
    throw new Error(`${source.location} holds a ${model.constructor.name}; LLaVA, mPLUG-Owl and LLaMA models chat`);
  const tokenizer = await loadTokenizer(source);
  if (!tokenizer) throw new Error(`${source.location} has no tokenizer.json or tokenizer.model`);
  checkTokenizer(source, tokenizer, model.config);
  return { model, parts: { tokenizer } };
}

const LOG = "log.json";

/**
 * The recipe, with the model's places as the caller gives them. A log.json from elsewhere could name any path or URL. So
 * its paths count only if the output_dir that it names has the same log.json on this machine, and its URLs never do.
 */
async function placed(
  source: FileSource,
  log: unknown,
  recipe: Recipe,
  options: AssistantOptions,
): Promise<PlacedRecipe> {
  const { base, visionTower } = options;
  const here = await trainedHere(log, recipe.output_dir);
  const own = (key: string, place: string, instead: string): string => {
    if (here && !isUrl(place)) return place;
    const why = isUrl(place) ? "a URL" : "a place that counts only where it was trained";
    throw new Error(`${source.location}/${LOG}: ${key} ${JSON.stringify(place)} is ${why}: ${instead}`);
  };
  // The result contains a trained projector. That of the previous stage may not exist any more.
  const before = recipe.trainable.includes("projector") ? null : recipe.pretrain_mm_mlp_adapter;
  const { model_name_or_path: model, vision_tower: tower } = recipe;
  return {
    ...recipe,
    model_name_or_path: base ?? own("model_name_or_path", model, "give the model as base (--base)"),
    vision_tower: visionTower ?? (tower && own("vision_tower", tower, "give it as visionTower (--vision-tower)")),
    pretrain_mm_mlp_adapter:
      before && own("pretrain_mm_mlp_adapter", before, "save the whole model where it was trained"),
  };
}

const isUrl = (place: string): boolean => /^[a-z][a-z0-9+.-]+:/i.test(place);

async function trainedHere(log: unknown, output: string): Promise<boolean> {
  if (isUrl(output)) return false;
  const known = await openFolder(output)
    .then((folder) => readJson(folder, LOG))
    .catch(() => undefined); // no such folder here, or no folders at all
  return known !== undefined && JSON.stringify(known) === JSON.stringify(log);
}

const bitsOf = { f32: 32, f16: 16, int8: 8, int4: 4, nf4: 4 } as const;

/** The model of a recipe with the adapter or projector that it trained. */
async function openTrained(source: FileSource, { dtype }: LlavaLoadOptions, recipe: PlacedRecipe): Promise<Opened> {
  const kept = dtype && { bits: bitsOf[dtype], quant_type: dtype === "int4" ? ("int4" as const) : ("nf4" as const) };
  const { model, processor } = await openModel({ ...recipe, ...kept });
  if ((await source.size("adapter_config.json")) !== undefined) await loadAdapter(model, source);
  else if (model instanceof Llava) await loadProjector(model, source);
  else
    throw new Error(
      `${source.location} has neither config.json nor adapter_config.json: it is not the result of a recipe`,
    );
  return { model, parts: { processor } };
}
