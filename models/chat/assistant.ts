/** What answers: the model of any folder that can chat, a recipe's result among them. */

import { type ChatMessage, type GenerateOptions, Processor } from "../../src/generate/index.ts";
import { type FileSource, openFolder, readJson } from "../../src/io/index.ts";
import { checkTokenizer, loadTokenizer } from "../../src/text/index.ts";
import type { LlavaLoadOptions } from "../checkpoints/llava.ts";
import { loadAdapter } from "../checkpoints/peft.ts";
import { loadProjector } from "../checkpoints/projector.ts";
import { LlamaForCausalLM } from "../llama.ts";
import { Llava } from "../llava.ts";
import { fromPretrained } from "../registry.ts";
import { openModel } from "../training/model.ts";
import { parseRecipe, type Recipe } from "../training/recipe.ts";
import { VisionLanguageModel } from "../vlm.ts";
import { ChatSession, type SessionParts } from "./session.ts";

export interface AssistantOptions extends LlavaLoadOptions {
  /** A PEFT folder whose adapter is put on the model. */
  readonly adapter?: string | FileSource;
  /** Conversation template. Default: that which a recipe trained, else the folder's chat template, else the model's own. */
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
   * Opens a checkpoint folder, or the output_dir of a recipe that trained an adapter or a projector: the log.json there says
   * what model it belongs to.
   */
  static async open(where: string | FileSource, options: AssistantOptions = {}): Promise<Assistant> {
    const source = await openFolder(where);
    const trained = (await source.size("log.json")) !== undefined;
    const recipe = trained
      ? parseRecipe((await readJson(source, "log.json")).recipe, `${source.location}/log.json`)
      : undefined;
    const whole = (await source.size("config.json")) !== undefined;
    if (!whole && !recipe)
      throw new Error(
        `${source.location} has no config.json: no checkpoint (and no log.json: not what a recipe trained)`,
      );
    const { adapter, template = recipe && recipe.version !== "plain" ? recipe.version : undefined, ...load } = options;
    const opened = whole ? await openWhole(source, load, recipe) : await openTrained(source, load, recipe!);
    if (adapter) await loadAdapter(opened.model, adapter);
    opened.model.eval();
    return new Assistant(opened.model, { ...opened.parts, template });
  }

  session(): ChatSession {
    return new ChatSession(this.model, this.parts);
  }

  /** Answers a conversation, in pieces of text. What the same conversation asked before is not computed again. */
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

const bitsOf = { f32: 32, f16: 16, int8: 8, int4: 4, nf4: 4 } as const;

/** What a recipe trained, on the model that it trained. */
async function openTrained(source: FileSource, { dtype }: LlavaLoadOptions, recipe: Recipe): Promise<Opened> {
  const kept = dtype && { bits: bitsOf[dtype], quant_type: dtype === "int4" ? ("int4" as const) : ("nf4" as const) };
  // A projector that trained is in the result; that of the stage before may be gone.
  const before = recipe.trainable.includes("projector") ? null : recipe.pretrain_mm_mlp_adapter;
  const { model, processor } = await openModel({ ...recipe, ...kept, pretrain_mm_mlp_adapter: before });
  if ((await source.size("adapter_config.json")) !== undefined) await loadAdapter(model, source);
  else if (model instanceof Llava) await loadProjector(model, source);
  else throw new Error(`${source.location} has neither config.json nor adapter_config.json: nothing that was trained`);
  return { model, parts: { processor } };
}
