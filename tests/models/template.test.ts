import { describe, expect, test } from "vitest";
import { memoryFiles } from "../../src/io/source.ts";
import { trainBPE } from "../../src/text/bpe.ts";
import { loadTokenizer } from "../../src/text/folder.ts";
import { renderChatTemplate } from "../../src/text/template.ts";

// In the form that llava-hf, Llama-2 and Qwen publish theirs; the texts are what those templates' authors document.
const llava =
  "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}" +
  "{# images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}" +
  "{% if message['role'] != 'assistant' %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}" +
  "{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}" +
  "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";
const llama2 =
  "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}" +
  "{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}" +
  "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}" +
  "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
const chatml =
  "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const turns = [
  { role: "user", content: " Hi " },
  { role: "assistant", content: "Hello" },
  { role: "user", content: "Bye" },
];

describe("chat templates", () => {
  test("LLaVA's: image parts stand first", () => {
    const messages = [
      { role: "user", content: [{ type: "text", text: "What is this?" }, { type: "image" }] },
      { role: "assistant", content: [{ type: "text", text: "A cat." }] },
      { role: "user", content: [{ type: "text", text: "Sure?" }] },
    ];
    expect(renderChatTemplate({ chat_template: llava }, messages, { addGenerationPrompt: true })).toBe(
      "USER: <image>\nWhat is this? ASSISTANT: A cat. USER: Sure? ASSISTANT:",
    );
  });

  test("LLaMA-2's, with a system text, special tokens in both spellings, and its own error", () => {
    const config = { chat_template: llama2, bos_token: { content: "<s>" }, eos_token: "</s>" };
    const system = { role: "system", content: "Be kind." };
    expect(renderChatTemplate(config, [system, ...turns])).toBe(
      "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n Hi [/INST] Hello </s><s>[INST] Bye [/INST]",
    );
    expect(() => renderChatTemplate(config, [turns[0], turns[0]])).toThrow(/roles must alternate/);
  });

  test("one of several by name; none is an error that lists them", () => {
    const config = {
      chat_template: [
        { name: "default", template: chatml },
        { name: "plain", template: "{{ more }}" },
      ],
    };
    expect(renderChatTemplate(config, turns, { addGenerationPrompt: true })).toBe(
      "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    );
    expect(renderChatTemplate(config, turns, { name: "plain", more: 7 })).toBe("7");
    expect(() => renderChatTemplate(config, turns, { name: "rag" })).toThrow(
      "no chat template; there are default, plain",
    );
    expect(() => renderChatTemplate({}, turns)).toThrow("the tokenizer has no chat template");
  });

  test("are read from chat_template.jinja, before tokenizer_config.json", async () => {
    const bytes = (value: unknown) =>
      new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
    const files = memoryFiles();
    files.files.set("tokenizer.json", bytes(trainBPE([["a b", 2]], { vocabSize: 260, specialTokens: ["<|im_end|>"] })));
    files.files.set("tokenizer_config.json", bytes({ chat_template: chatml, eos_token: "<|im_end|>" }));
    const text = async () => (await loadTokenizer(files))!.applyChatTemplate(turns.slice(0, 1));
    expect(await text()).toBe("<|im_start|>user\n Hi <|im_end|>\n");
    files.files.set("chat_template.jinja", bytes("{{ messages[0].content }}{{ eos_token }}"));
    expect(await text()).toBe(" Hi <|im_end|>");
    files.files.set("tokenizer.json", bytes({ model: { type: "WordLevel", vocab: {} } }));
    await expect(text()).rejects.toThrow("memory/tokenizer.json: tokenizer: the model WordLevel is not supported");
  });
});
