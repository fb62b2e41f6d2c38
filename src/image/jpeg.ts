/**
 * Decodes baseline and progressive JPEG (ITU T.81). Pixels equal those of libjpeg-turbo's defaults bit for bit, and so those of
 * Pillow and browsers: integer inverse DCT, smooth chroma upsampling, fixed-point colour conversion.
 */
import type { Image } from "./image.ts";
import { toPixels } from "./jpeg-pixels.ts";

/** A colour component of a frame. */
export interface Component {
  id: number;
  /** Sampling factors, and the size in samples and in whole blocks. */
  h: number;
  v: number;
  width: number;
  height: number;
  blocksWide: number;
  blocksHigh: number;
  quantization: number;
  coefficients: Int16Array; // 64 per block
  dc: number;
  dcTable?: HuffmanTable;
  acTable?: HuffmanTable;
}

/** The header of an image, with its components. */
export interface Frame {
  progressive: boolean;
  width: number;
  height: number;
  /** Largest sampling factors. */
  h: number;
  v: number;
  components: Component[];
}

/** Position of the i-th stored coefficient in a block (T.81 figure 5). */
const zigzag = Uint8Array.of(
  ...[0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14],
  ...[21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53],
  ...[60, 61, 54, 47, 55, 62, 63],
);

/** A Huffman table: codes by length, for the comparison of T.81 F.2.2.3. */
class HuffmanTable {
  readonly #max = new Int32Array(17).fill(-1); // largest code of each length
  readonly #offset = new Int32Array(17);

  constructor(
    counts: Uint8Array,
    readonly symbols: Uint8Array,
  ) {
    let code = 0;
    let first = 0;
    for (let length = 1; length <= 16; length++) {
      this.#offset[length] = first - code;
      first += counts[length - 1];
      code += counts[length - 1];
      if (counts[length - 1]) this.#max[length] = code - 1;
      code <<= 1;
    }
  }

  read(bits: Bits): number {
    let code = 0;
    for (let length = 1; length <= 16; length++) {
      code = (code << 1) | bits.bit();
      if (code <= this.#max[length]) return this.symbols[code + this.#offset[length]];
    }
    throw new Error("jpeg: the data is damaged: an unknown Huffman code");
  }
}

/** The entropy-coded bits of one scan. */
class Bits {
  #byte = 0;
  #left = 0;

  constructor(
    readonly data: Uint8Array,
    public at: number,
  ) {}

  bit(): number {
    if (this.#left === 0) {
      if (this.at >= this.data.length) throw new Error("jpeg: the file is truncated");
      this.#byte = this.data[this.at];
      if (this.#byte === 0xff && this.data[this.at + 1] !== 0) {
        throw new Error("jpeg: the data is damaged: a scan ends before its last block");
      }
      this.at += this.#byte === 0xff ? 2 : 1;
      this.#left = 8;
    }
    return (this.#byte >> --this.#left) & 1;
  }

  bits(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) value = (value << 1) | this.bit();
    return value;
  }

  /** Reads a number of `count` bits whose first bit is its sign (T.81 F.2.2.1). */
  signed(count: number): number {
    const value = this.bits(count);
    return count && value < 1 << (count - 1) ? value - (1 << count) + 1 : value;
  }

  /** Skips to the byte after the next restart marker. */
  restart(): void {
    this.#left = 0;
    while (this.data[this.at] === 0xff && this.data[this.at + 1] === 0xff) this.at++;
    const marker = this.data[this.at + 1];
    if (this.data[this.at] !== 0xff || !(marker >= 0xd0 && marker <= 0xd7)) {
      throw new Error("jpeg: the data is damaged or truncated: no restart marker where one is due");
    }
    this.at += 2;
  }
}

/** Decodes a JPEG file. Grey files give one channel, all others RGB. */
export function decodeJpeg(data: Uint8Array): Image {
  const decoder = new Decoder(data);
  for (let at: number | undefined = 2; at !== undefined; ) at = decoder.segment(at);
  const { frame, scans, quantization, adobe } = decoder;
  if (!frame || !scans) throw new Error("jpeg: the file has no image in it");
  return toPixels(frame, quantization, adobe);
}

/** The tables and the coefficients that the segments so far have given. */
class Decoder {
  readonly quantization: Uint16Array[] = [];
  /** Colour transform of an Adobe segment. */
  adobe: number | undefined;
  frame: Frame | undefined;
  /** Number of scans read. */
  scans = 0;
  readonly #dcTables: HuffmanTable[] = [];
  readonly #acTables: HuffmanTable[] = [];
  #restartInterval = 0;
  readonly #view: DataView;

  constructor(readonly data: Uint8Array) {
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  /** Reads the next segment from byte `at` on. Returns the position after it, or undefined at the end of the image. */
  segment(at: number): number | undefined {
    const { data } = this;
    while (at < data.length && !(data[at] === 0xff && data[at + 1] !== 0 && data[at + 1] !== 0xff)) at++;
    const marker = data[at + 1];
    if (marker === 0xd9) return undefined;
    if (at + 4 > data.length) {
      if (this.scans) return undefined; // complete except for its end marker
      throw new Error("jpeg: the file is truncated");
    }
    const end = at + 2 + this.#view.getUint16(at + 2);
    if (end > data.length) throw new Error("jpeg: the file is truncated");
    const start = at + 4;
    if (marker === 0xda) return this.#scan(start, end);
    if (marker === 0xdb) this.#quantizationTables(start, end);
    else if (marker === 0xc4) this.#huffmanTables(start, end);
    else if (marker === 0xdd) this.#restartInterval = this.#view.getUint16(start);
    else if (marker === 0xee && String.fromCharCode(...data.subarray(start, start + 5)) === "Adobe")
      this.adobe = data[start + 11];
    else if (marker >= 0xc0 && marker <= 0xc2) this.frame = readFrame(this.#view, start, marker === 0xc2);
    else if (marker > 0xc2 && marker <= 0xcf && marker !== 0xc8 && marker !== 0xcc)
      throw new Error(`jpeg: lossless, hierarchical and arithmetic coding are not supported (SOF${marker - 0xc0})`);
    return end;
  }

  #quantizationTables(p: number, end: number): void {
    while (p < end) {
      const table = new Uint16Array(64);
      const [wide, id] = [this.data[p] >> 4, this.data[p++] & 15];
      for (let i = 0; i < 64; i++, p += wide ? 2 : 1) table[zigzag[i]] = wide ? this.#view.getUint16(p) : this.data[p];
      this.quantization[id] = table;
    }
  }

  #huffmanTables(p: number, end: number): void {
    const { data } = this;
    while (p < end) {
      const [tables, id] = [data[p] >> 4 ? this.#acTables : this.#dcTables, data[p++] & 15];
      const counts = data.subarray(p, p + 16);
      const total = counts.reduce((a, b) => a + b, 0);
      tables[id] = new HuffmanTable(counts, data.subarray(p + 16, p + 16 + total));
      p += 16 + total;
    }
  }

  /** Reads a scan with its header at `p` and its bits from `end` on. Returns the position after the bits. */
  #scan(p: number, end: number): number {
    const { data, frame } = this;
    if (!frame) throw new Error("jpeg: the data is damaged: a scan before the frame header");
    const components = Array.from({ length: data[p++] }, () => {
      const component = frame.components.find(({ id }) => id === data[p]);
      if (!component) throw new Error(`jpeg: the data is damaged: a scan of an unknown component ${data[p]}`);
      component.dcTable = this.#dcTables[data[p + 1] >> 4];
      component.acTable = this.#acTables[data[p + 1] & 15];
      p += 2;
      return component;
    });
    const [from, to, high, low] = [data[p], data[p + 1], data[p + 2] >> 4, data[p + 2] & 15];
    const bits = new Bits(data, end);
    readScan(frame, components, bits, this.#restartInterval, frame.progressive ? { from, to, high, low } : undefined);
    this.scans++;
    return bits.at;
  }
}

function readFrame(view: DataView, p: number, progressive: boolean): Frame {
  const [precision, height, width, count] = [
    view.getUint8(p),
    view.getUint16(p + 1),
    view.getUint16(p + 3),
    view.getUint8(p + 5),
  ];
  if (precision !== 8) throw new Error(`jpeg: ${precision} bits per sample are not supported, only 8`);
  if (!width || !height || ![1, 3, 4].includes(count)) {
    throw new Error(`jpeg: the data is damaged: ${width} x ${height} pixels of ${count} components`);
  }
  const byte = (i: number, k: number): number => view.getUint8(p + 6 + 3 * i + k);
  const sampling = Array.from({ length: count }, (_, i) => [byte(i, 1) >> 4, byte(i, 1) & 15]);
  const [h, v] = [0, 1].map((axis) => Math.max(...sampling.map((s) => s[axis])));
  const components = sampling.map(([ch, cv], i): Component => {
    if (h % ch || v % cv) throw new Error(`jpeg: sampling ${ch}x${cv} of ${h}x${v} is not supported`);
    // An interleaved scan has whole units of all components (MCUs).
    const [blocksWide, blocksHigh] = [Math.ceil(width / (8 * h)) * ch, Math.ceil(height / (8 * v)) * cv];
    return {
      id: byte(i, 0),
      h: ch,
      v: cv,
      width: Math.ceil((width * ch) / h),
      height: Math.ceil((height * cv) / v),
      blocksWide,
      blocksHigh,
      quantization: byte(i, 2),
      coefficients: new Int16Array(64 * blocksWide * blocksHigh),
      dc: 0,
    };
  });
  return { progressive, width, height, h, v, components };
}

/** The band of coefficients, and of their bits, in a scan of a progressive file. */
interface Band {
  from: number;
  to: number;
  high: number;
  low: number;
}

function readScan(frame: Frame, components: Component[], bits: Bits, interval: number, band?: Band): void {
  const state = { run: 0 }; // blocks whose band has ended
  const block = (c: Component, row: number, column: number): void => {
    const at = 64 * (row * c.blocksWide + column);
    const x = c.coefficients.subarray(at, at + 64);
    if (!band) baseline(c, x, bits);
    else if (band.from === 0) progressiveDC(c, x, bits, band);
    else if (band.high === 0) progressiveAC(c, x, bits, band, state);
    else refineAC(c, x, bits, band, state);
  };
  const [first] = components;
  const single = components.length === 1;
  const wide = single ? Math.ceil(first.width / 8) : Math.ceil(frame.width / (8 * frame.h));
  const high = single ? Math.ceil(first.height / 8) : Math.ceil(frame.height / (8 * frame.v));
  for (const c of components) c.dc = 0;
  for (let unit = 0; unit < wide * high; unit++) {
    if (interval && unit && unit % interval === 0) {
      bits.restart();
      for (const c of components) c.dc = 0;
      state.run = 0;
    }
    const [row, column] = [Math.floor(unit / wide), unit % wide];
    if (single) block(first, row, column);
    else
      for (const c of components)
        for (let i = 0; i < c.h * c.v; i++) block(c, row * c.v + Math.floor(i / c.h), column * c.h + (i % c.h));
  }
}

function table(t: HuffmanTable | undefined): HuffmanTable {
  if (!t) throw new Error("jpeg: the data is damaged: a scan without its Huffman table");
  return t;
}

function baseline(c: Component, x: Int16Array, bits: Bits): void {
  x[0] = c.dc += bits.signed(table(c.dcTable).read(bits));
  const ac = table(c.acTable);
  for (let k = 1; k < 64; k++) {
    const symbol = ac.read(bits);
    const size = symbol & 15;
    if (!size && symbol !== 0xf0) break;
    k += symbol >> 4;
    if (size) x[zigzag[k & 63]] = bits.signed(size);
  }
}

function progressiveDC(c: Component, x: Int16Array, bits: Bits, { high, low }: Band): void {
  if (high) x[0] |= bits.bit() << low;
  else x[0] = (c.dc += bits.signed(table(c.dcTable).read(bits))) << low;
}

function progressiveAC(c: Component, x: Int16Array, bits: Bits, { from, to, low }: Band, state: { run: number }): void {
  if (state.run) {
    state.run--;
    return;
  }
  const ac = table(c.acTable);
  for (let k = from; k <= to; k++) {
    const symbol = ac.read(bits);
    const [run, size] = [symbol >> 4, symbol & 15];
    if (!size && run < 15) {
      state.run = (1 << run) + bits.bits(run) - 1;
      return;
    }
    k += run;
    if (size) x[zigzag[k & 63]] = bits.signed(size) << low;
  }
}

/** Reads one more bit of each known coefficient, and new ones of size 1 (T.81 G.1.2.3). */
function refineAC(c: Component, x: Int16Array, bits: Bits, { from, to, low }: Band, state: { run: number }): void {
  const bit = 1 << low;
  const refine = (i: number): void => {
    if (bits.bit() && !(x[i] & bit)) x[i] += x[i] > 0 ? bit : -bit;
  };
  let k = from;
  if (!state.run) {
    const ac = table(c.acTable);
    for (; k <= to; k++) {
      const symbol = ac.read(bits);
      let run = symbol >> 4;
      let value = 0;
      if (symbol & 15) value = bits.bit() ? bit : -bit;
      else if (run < 15) {
        state.run = (1 << run) + bits.bits(run);
        break;
      }
      for (; k <= to; k++) {
        const i = zigzag[k];
        if (x[i]) refine(i);
        else if (run-- === 0) {
          x[i] = value;
          break;
        }
      }
    }
  }
  if (!state.run) return;
  for (; k <= to; k++) if (x[zigzag[k]]) refine(zigzag[k]);
  state.run--;
}
