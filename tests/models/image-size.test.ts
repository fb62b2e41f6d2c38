import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "../../scripts/environment.mjs";
import { decodeImage, imageSize } from "../../src/image/decode.ts";
import { list } from "../style/files.ts";

const files = [...list("tests/models/jpeg", /\.jpe?g$/), ...list("examples", /\.png$/)];

test.each(files)("%s: the size that its first bytes tell is that of its pixels", async (path) => {
  const bytes = readFileSync(join(root, path));
  const { width, height } = await decodeImage(bytes);
  expect(imageSize(bytes.subarray(0, 65536))).toEqual({ width, height });
});

test("bytes that tell no size", () => {
  expect(imageSize(new Uint8Array(0))).toBeUndefined();
  expect(imageSize(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0, 16))).toBeUndefined(); // a JPEG cut short
  expect(imageSize(new TextEncoder().encode("GIF89a and more bytes than that"))).toBeUndefined();
});
