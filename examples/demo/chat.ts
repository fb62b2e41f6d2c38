/** Asking a checkpoint about a picture. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PNG } from "pngjs";
import { Llava } from "../../models/index.ts";
import { generate, generateText, type Prompt } from "../../src/generate/index.ts";
import { crop, flatten, type Image, normalize, padToSquare, resize } from "../../src/image/index.ts";
import { noGrad, tensor } from "../../src/index.ts";
import { Tokenizer, type TokenizerJson } from "../../src/text/index.ts";
import { fromInput, MEAN, STD, TILE, TILE_FLOATS } from "./draw.ts";
import { BOS, IMAGE, PAD, TextIds } from "./pack.ts";
import { pixelTensor } from "./stages.ts";

const MAX_ANSWER = 24;

/** The tiles of a picture: one, or four of a 2 x 2 composite. */
export interface Tiles {
  count: number;
  pixels: Float32Array; // [count, 3, 32, 32]
}

/** A model that answers questions about pictures. */
export class Chat {
  constructor(
    readonly model: Llava,
    readonly texts: TextIds,
  ) {}

  /** @param folder config.json, model.safetensors and tokenizer.json */
  static async open(folder: string): Promise<Chat> {
    const file = join(folder, "tokenizer.json");
    if (!existsSync(join(folder, "config.json")) || !existsSync(file)) {
      throw new Error(
        `${folder} holds no checkpoint of the demo (config.json, model.safetensors, tokenizer.json); train one with: npm run demo`,
      );
    }
    const tokenizer = new Tokenizer(JSON.parse(readFileSync(file, "utf8")) as TokenizerJson);
    return new Chat(await Llava.fromPretrained(folder), new TextIds(tokenizer));
  }

  /** Prompts of several questions, each about its own picture. All pictures have the same number of tiles. */
  prompt(asked: readonly { tiles: Tiles; question: string }[]): Prompt {
    const rows = asked.map(({ question }) => [BOS, IMAGE, ...this.texts.prompt(question)]);
    const length = Math.max(...rows.map((row) => row.length));
    const flat = (f: (row: number[]) => number[]): Int32Array => Int32Array.from(rows.flatMap(f));
    const shape = [rows.length, length];
    const pixels = new Float32Array(asked.length * asked[0].tiles.pixels.length);
    asked.forEach(({ tiles }, i) => pixels.set(tiles.pixels, i * tiles.pixels.length));
    return noGrad(() =>
      this.model.prompt({
        inputIds: tensor(
          flat((row) => [...row, ...new Array<number>(length - row.length).fill(PAD)]),
          { shape },
        ),
        attentionMask: tensor(
          flat((row) => Array.from({ length }, (_, i) => (i < row.length ? 1 : 0))),
          { shape },
        ),
        pixelValues: pixelTensor(pixels),
        tilesPerImage: asked[0].tiles.count,
      }),
    );
  }

  /** Yields the answer in pieces as it is generated. `temperature` 0 takes the likeliest words. */
  stream(tiles: Tiles, question: string, temperature = 0): AsyncGenerator<string> {
    const text = question.trim();
    if (!text) throw new Error("the question is empty; ask something, for example: What is this?");
    if (this.texts.of(text).length > 64)
      throw new Error(`the question is ${this.texts.of(text).length} tokens long, at most 64 fit`);
    return generateText(this.model.language_model, this.texts.tokenizer, this.prompt([{ tiles, question: text }]), {
      maxNewTokens: MAX_ANSWER,
      temperature,
    });
  }

  /** Greedy answers to several questions at once. */
  async answers(asked: readonly { tiles: Tiles; question: string }[]): Promise<string[]> {
    const rows = await generate(this.model.language_model, this.prompt(asked), { maxNewTokens: MAX_ANSWER });
    return rows.map((ids) => this.texts.tokenizer.decode(ids));
  }
}

/** Reads a PNG file. @throws with the problem of the file. */
export function readPng(file: string): Image {
  if (!existsSync(file)) throw new Error(`there is no file ${file}`);
  const bytes = readFileSync(file);
  if (bytes.length < 8 || bytes.readUInt32BE(0) !== 0x89504e47) throw new Error(`${file} is not a PNG image`);
  try {
    const { width, height, data } = PNG.sync.read(bytes);
    return { width, height, channels: 4, data };
  } catch (error) {
    throw new Error(`${file} is a damaged PNG image: ${(error as Error).message}`);
  }
}

const rgb3 = (value: number): number[] => [value, value, value];

/** Cuts and scales an image to tiles. A square is a composite if its middle row and column have one colour. */
export function toTiles(image: Image): Tiles {
  const rgb = flatten(image);
  const half = Math.floor(rgb.width / 2);
  const corners = [0, half].flatMap((y) => [0, half].map((x) => [x, y] as const));
  const parts = isComposite(rgb) ? corners.map(([x, y]) => crop(rgb, x, y, half, half)) : [rgb];
  const pixels = new Float32Array(parts.length * TILE_FLOATS);
  parts.forEach((part, i) => {
    const square = padToSquare(part, [...part.data.subarray(0, 3)]);
    pixels.set(normalize(resize(square, TILE, TILE, "bilinear"), rgb3(MEAN), rgb3(STD)), i * TILE_FLOATS);
  });
  return { count: parts.length, pixels };
}

function isComposite({ width, height, data }: Image): boolean {
  if (width !== height || width < 2 * TILE) return false;
  const middle = width >> 1;
  const at = (x: number, y: number, c: number): number => data[(y * width + x) * 3 + c];
  for (let i = 0; i < width; i++) {
    for (let c = 0; c < 3; c++) {
      const ground = at(middle, middle, c);
      if (Math.abs(at(i, middle, c) - ground) > 8 || Math.abs(at(middle, i, c) - ground) > 8) return false;
    }
  }
  // A picture of a single colour is no composite.
  return data.some((v, i) => Math.abs(v - at(middle, middle, i % 3)) > 8);
}

/** Tiles as the bytes of a PNG file: one tile, or four in a square. Each pixel is drawn `scale` pixels wide. */
export function tilesToPng({ count, pixels }: Tiles, scale = 1): Buffer {
  const across = count > 1 ? 2 : 1;
  const size = across * TILE * scale;
  const png = new PNG({ width: size, height: size });
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const [px, py] = [Math.floor(x / scale), Math.floor(y / scale)];
      const tile = Math.floor(py / TILE) * across + Math.floor(px / TILE);
      const from = tile * TILE_FLOATS + (py % TILE) * TILE + (px % TILE);
      for (let c = 0; c < 3; c++) png.data[(y * size + x) * 4 + c] = fromInput(pixels[from + c * TILE * TILE]);
      png.data[(y * size + x) * 4 + 3] = 255;
    }
  }
  return PNG.sync.write(png);
}
