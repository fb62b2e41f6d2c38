import { existsSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Assistant, type ChatSession } from "../../models/chat/index.ts";
import type { GenerateOptions } from "../../src/generate/index.ts";
import { decodeImage, type Image } from "../../src/image/index.ts";
import { init } from "../../src/index.ts";
import { numberOf, oneOf, weightTypes } from "./options.ts";
import { bold, dim, loading, yellow } from "./terminal.ts";

export const summary = "talks with a LLaVA, mPLUG-Owl or LLaMA checkpoint about pictures";

const HELP = `usage: shadegrad chat MODEL [--image a.png] [--prompt TEXT] [options]

MODEL is a folder or URL with config.json, weights and a tokenizer, or what shadegrad train wrote. Without --prompt
messages are read line by line; a line may also be one of
  /image FILE   show the model a picture (PNG or JPEG) with the next message
  /new          begin another conversation
  /exit         leave (as the end of input does)

  --image FILE              a picture for the first message; may be given several times
  --prompt TEXT             answer this and leave
  --template NAME           conversation template (vicuna_v1, llama_2, …); default: that of the folder
  --base FOLDER             the model that an adapter or projector of shadegrad train belongs to, if trained elsewhere
  --adapter FOLDER          a PEFT adapter to put on the model
  --vision-tower FOLDER     the tower of a checkpoint in LLaVA's original layout
  --dtype TYPE              how weights are kept: f32, f16, int8, int4, nf4
  --cache-type TYPE         how keys and values are kept: f32, f16, int8
  --temperature X, --top-k N, --top-p X, --min-p X, --repetition-penalty X, --max-new-tokens N, --seed N
  --prompt-lookup N         propose N tokens at a time from what was said`;

const numbers = {
  temperature: "temperature",
  "top-k": "topK",
  "top-p": "topP",
  "min-p": "minP",
  "repetition-penalty": "repetitionPenalty",
  "max-new-tokens": "maxNewTokens",
  seed: "seed",
  "prompt-lookup": "promptLookupNumTokens",
} as const;

export async function run(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values: given, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      image: { type: "string", multiple: true, default: [] },
      prompt: text,
      template: text,
      base: text,
      adapter: text,
      "vision-tower": text,
      dtype: text,
      "cache-type": text,
      temperature: text,
      "top-k": text,
      "top-p": text,
      "min-p": text,
      "repetition-penalty": text,
      "max-new-tokens": text,
      seed: text,
      "prompt-lookup": text,
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (given.help) return console.log(HELP);
  if (positionals.length !== 1)
    throw new Error(`one model expected, got ${positionals.length}; shadegrad chat --help tells more`);
  const generation: GenerateOptions = { cacheType: oneOf("cache-type", given["cache-type"], ["f32", "f16", "int8"]) };
  for (const [name, key] of Object.entries(numbers)) {
    const value = numberOf(name, given[name as keyof typeof numbers]);
    if (value !== undefined) generation[key] = value;
  }
  const dtype = oneOf("dtype", given.dtype, weightTypes);
  const shown = await Promise.all(given.image.map(readImage));
  const device = await init();
  note(device ? device.description : "f64 interpreter on the CPU");
  const { template, base, adapter, "vision-tower": visionTower } = given;
  const assistant = await Assistant.open(positionals[0], {
    ...{ dtype, template, base, adapter, visionTower },
    onProgress: process.stdin.isTTY ? loading() : undefined,
  });
  const talk = new Talk(() => assistant.session(), generation, shown);
  if (given.prompt !== undefined) return talk.say(given.prompt);
  await converse(talk);
}

/** Messages for a person at a terminal, not for a pipe. */
function note(text: string): void {
  if (process.stdin.isTTY) console.error(dim(text));
}

async function readImage(path: string): Promise<Image> {
  if (!existsSync(path)) throw new Error(`${path}: no such file`);
  try {
    return await decodeImage(readFileSync(path));
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
}

/** The current conversation, and the pictures for the next message. */
class Talk {
  #session: ChatSession;
  #stop = new AbortController();
  #busy = false;

  constructor(
    readonly open: () => ChatSession,
    readonly options: GenerateOptions,
    readonly images: Image[],
  ) {
    this.#session = open();
  }

  /** Prints the answer as it is generated. An interrupted answer ends there. */
  async say(text: string): Promise<void> {
    if (!text.trim()) throw new Error("the message is empty");
    this.#stop = new AbortController();
    this.#busy = true;
    const { signal } = this.#stop;
    try {
      for await (const piece of this.#session.send([...this.images, text.trim()], { ...this.options, signal }))
        process.stdout.write(piece);
      this.images.length = 0;
    } catch (error) {
      if (!signal.aborted) throw error;
      this.images.length = 0;
    } finally {
      this.#busy = false;
      process.stdout.write("\n");
    }
  }

  /** Interrupts the current answer. Returns false if there is none. */
  interrupt(): boolean {
    this.#stop.abort();
    return this.#busy;
  }

  /** Handles one line of input. */
  async line(line: string): Promise<void> {
    const [command, ...rest] = line.trim().split(/\s+/);
    if (!command.startsWith("/")) return this.say(line);
    if (command === "/image") {
      const path = rest.join(" ");
      if (!path) throw new Error("/image takes a file");
      this.images.push(await readImage(path));
      note(`${path} comes with the next message`);
    } else if (command === "/new") {
      this.#session = this.open();
      this.images.length = 0;
      note("a new conversation");
    } else throw new Error(`there is no ${command}; there are /image FILE, /new and /exit`);
  }
}

async function converse(talk: Talk): Promise<void> {
  note("/image FILE shows a picture, /new begins again, /exit leaves");
  const terminal = process.stdin.isTTY;
  const input = createInterface({
    input: process.stdin,
    output: terminal ? process.stdout : undefined,
    prompt: bold("> "),
  });
  input.on("SIGINT", () => {
    if (!talk.interrupt()) input.close();
  });
  input.prompt();
  // No await may come between this and the creation of the interface, or its first lines are lost.
  for await (const line of input) {
    if (line.trim() === "/exit") break;
    try {
      if (line.trim()) await talk.line(line);
    } catch (error) {
      console.error(yellow((error as Error).message));
      if (!terminal) process.exitCode = 1;
    }
    if (terminal) input.prompt();
  }
  input.close();
}
