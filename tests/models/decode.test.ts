import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { deflateSync } from "node:zlib";
import fc from "fast-check";
import { PNG } from "pngjs";
import { describe, expect, test } from "vitest";
import { decodeImage } from "../../src/image/decode.ts";
import { toRGB } from "../../src/image/image.ts";

const folder = join(dirname(fileURLToPath(import.meta.url)), "jpeg");
const read = (name: string) => new Uint8Array(readFileSync(join(folder, name)));
const chunk = (type: string, body: Uint8Array): Buffer => {
  const named = Buffer.concat([Buffer.from(type, "latin1"), body]);
  const out = Buffer.alloc(named.length + 8);
  out.writeUInt32BE(body.length);
  named.copy(out, 4);
  out.writeUInt32BE(crc(named), named.length + 4);
  return out;
};
const crc = (bytes: Uint8Array): number => {
  let c = ~0;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (c & 1 ? 0xedb88320 : 0);
  }
  return ~c >>> 0;
};
const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);

describe("JPEG: the bytes of libjpeg-turbo 2.1.5 (four-colour files converted as Pillow does)", () => {
  const expected: Record<string, string> = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8"));
  const files = readdirSync(folder).filter((name) => name.endsWith(".jpg"));

  test.each(files)("%s", async (name) => {
    const { data } = await decodeImage(read(name));
    expect(createHash("sha256").update(data).digest("hex").slice(0, 16)).toBe(expected[name]);
  });

  test("every file has its pixels on record", () => expect(files.sort()).toEqual(Object.keys(expected)));

  test("truncated anywhere, it says so", async () => {
    for (const name of ["c420.jpg", "prog420.jpg", "restart420.jpg"]) {
      const whole = read(name);
      for (const part of [0.05, 0.3, 0.6, 0.95]) {
        const cut = whole.subarray(0, Math.floor(whole.length * part));
        await expect(decodeImage(cut), `${name} ${part}`).rejects.toThrow(/jpeg: .*(truncated|damaged)/);
      }
    }
  });

  test("damaged anywhere, it decodes or says so, and always ends", async () => {
    const whole = read("prog420.jpg");
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, value) => {
        const bytes = whole.slice();
        bytes[at] = value;
        await decodeImage(bytes).catch((error: Error) => expect(error.message).toMatch(/^(jpeg|decodeImage): /));
      }),
      { numRuns: 300 },
    );
  });
});

describe("PNG", () => {
  const depths: Record<number, number[]> = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
  const kinds = Object.entries(depths).flatMap(([colour, list]) => list.map((depth) => [Number(colour), depth]));
  const channels: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

  /** A file of random scanlines under random filters. */
  function file(colour: number, depth: number, interlaced: boolean, width: number, height: number): Buffer {
    let state = 7 * width + height + colour;
    const random = () => (state = (state * 1103515245 + 12345) & 0x7fffffff) >> 16;
    const passes = interlaced
      ? [
          [0, 0, 8, 8],
          [4, 0, 8, 8],
          [0, 4, 4, 8],
          [2, 0, 4, 4],
          [0, 2, 2, 4],
          [1, 0, 2, 2],
          [0, 1, 1, 2],
        ]
      : [[0, 0, 1, 1]];
    const rows: number[] = [];
    for (const [x0, y0, dx, dy] of passes) {
      const columns = Math.max(0, Math.ceil((width - x0) / dx));
      for (let y = y0; y < height && columns; y += dy) {
        rows.push(random() % 5);
        for (let i = 0; i < Math.ceil((columns * channels[colour] * depth) / 8); i++) rows.push(random() & 255);
      }
    }
    const header = Buffer.alloc(13);
    header.writeUInt32BE(width);
    header.writeUInt32BE(height, 4);
    header.set([depth, colour, 0, 0, interlaced ? 1 : 0], 8);
    const palette = Uint8Array.from({ length: 3 * 2 ** Math.min(depth, 8) }, () => random() & 255);
    const data = deflateSync(Uint8Array.from(rows));
    const parts = [chunk("IHDR", header), ...(colour === 3 ? [chunk("PLTE", palette)] : [])];
    const half = data.length >> 1; // in two chunks
    parts.push(
      chunk("IDAT", data.subarray(0, half)),
      chunk("IDAT", data.subarray(half)),
      chunk("IEND", new Uint8Array()),
    );
    return Buffer.concat([signature, ...parts]);
  }

  test.each(kinds)("colour type %i with %i bits, plain and interlaced", async (colour, depth) => {
    for (const interlaced of [false, true]) {
      for (const [width, height] of [
        [1, 1],
        [3, 9],
        [21, 13],
      ]) {
        const bytes = file(colour, depth, interlaced, width, height);
        const want = PNG.sync.read(bytes).data;
        const image = await decodeImage(bytes);
        const rgb = toRGB(image).data;
        for (let i = 0; i < width * height; i++) {
          // 16-bit samples: the other decoder rounds, this one keeps the high byte as Pillow does.
          for (let c = 0; c < 3; c++)
            expect(Math.abs(rgb[3 * i + c] - want[4 * i + c])).toBeLessThanOrEqual(depth > 8 ? 1 : 0);
          if (image.channels === 4)
            expect(Math.abs(image.data[4 * i + 3] - want[4 * i + 3])).toBeLessThanOrEqual(depth > 8 ? 1 : 0);
        }
        expect(image.channels).toBe({ 0: 1, 2: 3, 3: 3, 4: 4, 6: 4 }[colour]);
      }
    }
  });

  test("transparent colours of a palette", async () => {
    const header = Buffer.from([0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0]);
    const image = (data: number[]) =>
      Buffer.concat([
        signature,
        chunk("IHDR", header),
        chunk("PLTE", Uint8Array.of(1, 2, 3, 4, 5, 6)),
        chunk("tRNS", Uint8Array.of(0)),
        chunk("IDAT", deflateSync(Uint8Array.from(data))),
        chunk("IEND", new Uint8Array()),
      ]);
    expect([...(await decodeImage(image([0, 0, 1]))).data]).toEqual([1, 2, 3, 0, 4, 5, 6, 255]);
    await expect(decodeImage(image([0, 0, 2]))).rejects.toThrow("colour 2 is not in the palette");
    await expect(decodeImage(image([0, 0]))).rejects.toThrow("too few pixels");
    await expect(decodeImage(image([5, 0, 0]))).rejects.toThrow("unknown filter 5");
  });

  test("truncated or damaged, it says where", async () => {
    const whole = new Uint8Array(file(2, 8, false, 21, 13));
    await expect(decodeImage(whole.subarray(0, 20))).rejects.toThrow(
      "png: the file is truncated within its IHDR chunk",
    );
    await expect(decodeImage(whole.subarray(0, whole.length - 40))).rejects.toThrow("truncated within its IDAT chunk");
    await expect(decodeImage(whole.subarray(0, whole.length - 11))).rejects.toThrow("png: the file is truncated");
    const damaged = whole.slice();
    damaged[60] ^= 1;
    await expect(decodeImage(damaged)).rejects.toThrow("wrong checksum of the IDAT chunk");
  });
});

test("what is no image is named by its first bytes", async () => {
  await expect(decodeImage(new Uint8Array(0))).rejects.toThrow("the file is empty");
  await expect(decodeImage(new TextEncoder().encode("GIF89a.."))).rejects.toThrow(
    "neither PNG nor JPEG: the file begins with 47 49 46 38 39 61 2e 2e",
  );
  expect((await decodeImage(new Blob([read("grey.jpg") as Uint8Array<ArrayBuffer>]))).channels).toBe(1);
});
