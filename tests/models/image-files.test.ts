/** EXIF orientation, transparent colours and missing ends of image files, as Pillow reads them. */
import { deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { decodeImage, imageSize } from "../../src/image/index.ts";
import { crc32 } from "../../src/io/crc32.ts";

function chunk(type: string, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(body, 8);
  view.setUint32(8 + body.length, crc32(bytes.subarray(4, 8 + body.length)));
  return bytes;
}

/** A PNG of rows of stored bytes. */
function png(width: number, depth: number, colour: number, rows: number[][], ...between: Uint8Array[]): Uint8Array {
  const header = Uint8Array.of(0, 0, 0, width, 0, 0, 0, rows.length, depth, colour, 0, 0, 0);
  const data = deflateSync(Uint8Array.from(rows.flatMap((row) => [0, ...row])));
  return Buffer.concat([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", header),
    ...between,
    chunk("IDAT", data),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

/** EXIF data with an orientation, in either byte order. */
const exif = (orientation: number, little: boolean): Uint8Array =>
  little
    ? Uint8Array.of(0x49, 0x49, 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0)
    : Uint8Array.of(0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0);

describe("EXIF orientation", () => {
  // 1 2 3
  // 4 5 6
  test.each([
    [1, 3, [1, 2, 3, 4, 5, 6]],
    [2, 3, [3, 2, 1, 6, 5, 4]],
    [3, 3, [6, 5, 4, 3, 2, 1]],
    [4, 3, [4, 5, 6, 1, 2, 3]],
    [5, 2, [1, 4, 2, 5, 3, 6]],
    [6, 2, [4, 1, 5, 2, 6, 3]],
    [7, 2, [6, 3, 5, 2, 4, 1]],
    [8, 2, [3, 6, 2, 5, 1, 4]],
  ])("%i", async (orientation, width, want) => {
    for (const little of [true, false]) {
      const file = png(
        3,
        8,
        0,
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        chunk("eXIf", exif(orientation, little)),
      );
      const image = await decodeImage(file);
      expect([image.width, [...image.data]]).toEqual([width, want]);
      expect(imageSize(file)).toEqual({ width, height: 6 / width });
      const stored = await decodeImage(file, { orientation: false });
      expect([stored.width, [...stored.data]]).toEqual([3, [1, 2, 3, 4, 5, 6]]);
    }
  });

  test("damaged EXIF data counts as upright; unknown options are refused", async () => {
    const file = png(3, 8, 0, [[1, 2, 3]], chunk("eXIf", exif(6, true).subarray(0, 12)));
    expect((await decodeImage(file)).width).toBe(3);
    await expect(decodeImage(file, { rotate: true } as object)).rejects.toThrow(/unknown option rotate/);
  });
});

describe("a transparent colour", () => {
  const alphas = async (file: Uint8Array): Promise<number[]> => {
    const { data, channels } = await decodeImage(file);
    expect(channels).toBe(4);
    return [...data].filter((_, i) => i % 4 === 3);
  };
  const clear = (...samples: number[]): Uint8Array =>
    chunk("tRNS", Uint8Array.from(samples.flatMap((s) => [s >> 8, s & 255])));

  test("grey of 1, 2, 8 and 16 bits", async () => {
    expect(await alphas(png(4, 1, 0, [[0b01100000]], clear(1)))).toEqual([255, 0, 0, 255]);
    expect(await alphas(png(4, 2, 0, [[0b00011011]], clear(2)))).toEqual([255, 255, 0, 255]);
    expect(await alphas(png(2, 8, 0, [[7, 8]], clear(8)))).toEqual([255, 0]);
    expect(await alphas(png(2, 16, 0, [[1, 2, 1, 3]], clear(0x0103)))).toEqual([255, 0]);
  });

  test("RGB: all three samples must agree", async () => {
    expect(await alphas(png(3, 8, 2, [[1, 2, 3, 1, 2, 4, 9, 2, 3]], clear(1, 2, 3)))).toEqual([0, 255, 255]);
  });

  test("without tRNS there is no alpha; a short chunk is an error", async () => {
    expect((await decodeImage(png(1, 8, 2, [[1, 2, 3]]))).channels).toBe(3);
    await expect(decodeImage(png(1, 8, 2, [[1, 2, 3]], clear(1)))).rejects.toThrow(/png: .*tRNS/);
  });
});

test("a file without IEND is complete; one cut within a chunk is not", async () => {
  const file = png(2, 8, 0, [[1, 2]]);
  expect([...(await decodeImage(file.subarray(0, file.length - 12))).data]).toEqual([1, 2]);
  await expect(decodeImage(file.subarray(0, file.length - 14))).rejects.toThrow(/truncated/);
});
