import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Llava } from "../../models/index.ts";
import type { Tokenizer } from "../../src/text/index.ts";
import { MEAN, STD, TILE } from "./draw.ts";
import { BOS, EOS, PAD, specialTokens } from "./pack.ts";

/** Writes a folder in the layout of Hugging Face: weights as f16, tokenizer with chat template, preprocessing. */
export async function saveCheckpoint(folder: string, model: Llava, tokenizer: Tokenizer): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const write = (name: string, value: object): void => {
    writeFileSync(join(folder, `${name}.part`), `${JSON.stringify(value, null, name === "tokenizer.json" ? 0 : 2)}\n`);
    renameSync(join(folder, `${name}.part`), join(folder, name));
  };
  write("tokenizer.json", tokenizer.json);
  write("tokenizer_config.json", {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: specialTokens[BOS],
    eos_token: specialTokens[EOS],
    pad_token: specialTokens[PAD],
    clean_up_tokenization_spaces: false,
    chat_template:
      "{{ bos_token }}<image>{% for message in messages %}{% if message['role'] == 'user' %}<usr>{{ message['content'] }}<ast>" +
      "{% else %}{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
  });
  write("preprocessor_config.json", {
    do_convert_rgb: true,
    do_resize: true,
    size: { height: TILE, width: TILE },
    resample: 2,
    do_center_crop: false,
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: [MEAN, MEAN, MEAN],
    image_std: [STD, STD, STD],
  });
  await model.savePretrained(folder, { float: "F16" });
}
