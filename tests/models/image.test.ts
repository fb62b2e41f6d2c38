import { readFileSync } from "node:fs";
import { PNG } from "pngjs";
import { describe, expect, it } from "vitest";
import { crop, flatten, type Image, padToSquare, toRGB } from "../../src/image/image.ts";
import { preprocess } from "../../src/image/processing.ts";
import { type Filter, resize, resizeShortestEdge } from "../../src/image/resize.ts";
import { goldenPath, readJson, readTensors } from "./goldens.ts";

const file = goldenPath("preprocess", "clip", "case.json");
const load = (path: string): Image => {
  const { width, height, data } = PNG.sync.read(readFileSync(goldenPath("preprocess", "clip", path)!));
  return { width, height, channels: 4, data };
};

describe.skipIf(!file)("image preprocessing", () => {
  interface Golden {
    scenarios: Record<string, { what: string; image: string }>;
    tol: { pixel_values: { atol: number; rtol: number } };
  }
  const golden = file ? readJson<Golden>(file) : { scenarios: {}, tol: { pixel_values: { atol: 0, rtol: 0 } } };
  const outputs = file ? readTensors(goldenPath("preprocess", "clip", "outputs.safetensors")!) : {};

  for (const [name, { image: path }] of Object.entries(golden.scenarios)) {
    it(name, () => {
      const image = toRGB(load(path));
      const [kind, filter] = name.split("_");
      const size = Number(/\d+/.exec(kind)?.[0]);
      const resized = outputs[`${name}/resized`];
      const pixels = outputs[`${name}/pixel_values`];
      expect(Object.keys(outputs)).toContain(kind === "pil" ? `${name}/resized` : `${name}/pixel_values`);
      if (resized) {
        const got = kind === "pil" ? resize(image, 17, 23, filter as Filter) : resizeShortestEdge(image, size);
        expect([got.height, got.width, 3]).toEqual(resized.shape);
        expect(Buffer.from(got.data).equals(Buffer.from(resized.data as Uint8Array))).toBe(true);
      }
      if (pixels) {
        const half = [0.5, 0.5, 0.5];
        const got =
          kind === "siglip"
            ? preprocess(image, {
                size: { height: 24, width: 28 },
                do_center_crop: false,
                image_mean: half,
                image_std: half,
              })
            : kind === "crop"
              ? preprocess(image, { size: 20, crop_size: 27 })
              : preprocess(image, { size, crop_size: size }, kind.startsWith("pad") ? "pad" : undefined);
        expect([3, got.height, got.width]).toEqual(pixels.shape);
        const { atol, rtol } = golden.tol.pixel_values;
        got.data.forEach((v, i) => {
          const want = pixels.data[i];
          if (!(Math.abs(v - want) <= atol + rtol * Math.abs(want)))
            throw new Error(`pixel ${i}: got ${v}, want ${want}`);
        });
      }
    });
  }

  it("says what is wrong with an image", () => {
    expect(() => resize({ width: 2, height: 2, channels: 3, data: new Uint8Array(5) }, 1, 1)).toThrow(
      /needs 12 bytes, got 5/,
    );
    expect(() => resize({ width: 0, height: 2, channels: 3, data: new Uint8Array(0) }, 1, 1)).toThrow(/bad size/);
    expect(() => padToSquare(resize({ width: 1, height: 1, channels: 3, data: new Uint8Array(3) }, 0, 1))).toThrow(
      /resize: bad size/,
    );
  });
});

it("takes the defaults of the processor class that preprocessor_config.json names", () => {
  const image: Image = { width: 9, height: 5, channels: 3, data: Uint8Array.from({ length: 135 }, (_, i) => i) };
  const size = { height: 6, width: 8 };
  const siglip = preprocess(image, { image_processor_type: "SiglipImageProcessor", size });
  expect([siglip.width, siglip.height]).toEqual([8, 6]); // no crop
  const bytes = resize(image, 8, 6, "bicubic").data;
  expect(siglip.data[0]).toBeCloseTo((bytes[0] / 255 - 0.5) / 0.5, 6);
  const vit = preprocess(image, { image_processor_type: "ViTImageProcessor", size: 4 });
  expect([vit.width, vit.height]).toEqual([4, 4]);
  expect(vit.data[0]).toBeCloseTo(resize(image, 4, 4, "bilinear").data[0] / 127.5 - 1, 6);
  const plain = preprocess(image, { size, do_center_crop: false, do_rescale: false, do_normalize: false });
  expect(plain.data[0]).toBe(bytes[0]);
  expect(() => preprocess(image, { resample: 9 })).toThrow("resample 9 is no filter of Pillow");
});

describe("pieces of an image", () => {
  const image: Image = {
    width: 2,
    height: 2,
    channels: 4,
    data: Uint8Array.of(10, 20, 30, 255, 0, 0, 0, 0, 100, 100, 100, 51, 1, 2, 3, 255),
  };

  it("shows a colour where it is transparent", () => {
    expect([...flatten(image).data]).toEqual([10, 20, 30, 255, 255, 255, 224, 224, 224, 1, 2, 3]);
    expect([...flatten(image, [0, 0, 0]).data].slice(3, 6)).toEqual([0, 0, 0]);
  });

  it("cuts rectangles, zeros where the image does not reach", () => {
    const cut = crop(image, 1, 1, 2, 1);
    expect([cut.width, cut.height]).toEqual([2, 1]);
    expect([...cut.data]).toEqual([1, 2, 3, 255, 0, 0, 0, 0]);
  });
});
