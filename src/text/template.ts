/** Chat templates in Jinja, from tokenizer_config.json or chat_template.jinja. */
import { Template } from "@huggingface/jinja";
import type { TokenizerConfig } from "./tokenizer.ts";

export interface ChatTemplateMessage {
  role: string;
  /** Text, or parts such as `{ type: "image" }` and `{ type: "text", text: "…" }`, whichever the template expects. */
  content: string | readonly { type: string; text?: string }[];
  [key: string]: unknown;
}

export interface ChatTemplateOptions {
  /** End with the header of the assistant's message. Default false. */
  addGenerationPrompt?: boolean;
  /** Name of the template, if a model has several. Default "default". */
  name?: string;
  /** Further variables of the template (tools, documents, …). */
  [variable: string]: unknown;
}

const compiled = new Map<string, Template>();

/** Renders messages with the template of a tokenizer's config. */
export function renderChatTemplate(
  config: TokenizerConfig,
  messages: readonly ChatTemplateMessage[],
  { addGenerationPrompt = false, name = "default", ...variables }: ChatTemplateOptions = {},
): string {
  const { chat_template: templates } = config;
  const text = Array.isArray(templates) ? templates.find((each) => each.name === name)?.template : templates;
  if (!text) {
    const names = Array.isArray(templates) ? `; there are ${templates.map((each) => each.name).join(", ")}` : "";
    throw new Error(`applyChatTemplate: the tokenizer has no chat template${names}`);
  }
  let template = compiled.get(text);
  if (!template) compiled.set(text, (template = new Template(text)));
  const content = (token: unknown) => (typeof token === "string" ? token : (token as { content?: string })?.content);
  const tokens = ["bos_token", "eos_token", "unk_token", "pad_token"].map((key) => [key, content(config[key])]);
  return template.render({
    ...Object.fromEntries(tokens.filter(([, token]) => token !== undefined)),
    ...variables,
    messages,
    add_generation_prompt: addGenerationPrompt,
  });
}
