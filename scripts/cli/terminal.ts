/** Output of commands and the demo: progress bars (without a terminal, a line from time to time) and tables. */
import type { LoadOptions } from "../../models/index.ts";

const colour = process.stdout.isTTY && !process.env.NO_COLOR;
const ESC = "\u001b";
const codes = new RegExp(`${ESC}\\[\\d+m`, "g");
const paint =
  (code: number) =>
  (text: string): string =>
    colour ? `${ESC}[${code}m${text}${ESC}[0m` : text;
export const bold = paint(1);
export const dim = paint(2);
export const green = paint(32);
export const yellow = paint(33);

/** Width of a string in columns: Chinese characters have two. */
export function width(text: string): number {
  let n = 0;
  for (const char of text.replace(codes, ""))
    n += /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60]/.test(char) ? 2 : 1;
  return n;
}

const pad = (text: string, size: number, right: boolean): string => {
  const space = " ".repeat(Math.max(0, size - width(text)));
  return right ? space + text : text + space;
};

/** A table with a rule under the head; all columns but the first are right-aligned. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const sizes = head.map((h, i) => Math.max(width(h), ...rows.map((row) => width(row[i]))));
  const line = (row: readonly string[]): string => `  ${row.map((cell, i) => pad(cell, sizes[i], i > 0)).join("  ")}`;
  return [bold(line(head)), dim(`  ${sizes.map((n) => "─".repeat(n)).join("  ")}`), ...rows.map(line)].join("\n");
}

/** 1234567 → "1.23 M" */
export function short(value: number): string {
  for (const [unit, size] of [
    ["T", 1e12],
    ["G", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ] as const) {
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return value.toPrecision(3);
}

export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")} min`;
  return `${Math.floor(s / 3600)}:${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} h`;
}

/** A line that is redrawn. Without a terminal it is printed every fifteen seconds, and at the end. */
export class Bar {
  #drawn = 0;
  #last = "";

  constructor(readonly name: string) {}

  update(done: number, total: number, facts: string): void {
    const now = performance.now();
    const filled = Math.round((24 * done) / total);
    this.#last = `  ${pad(this.name, 28, false)} ${green("━".repeat(filled))}${dim("─".repeat(24 - filled))} ${pad(`${done}/${total}`, 11, true)}  ${facts}`;
    if (now - this.#drawn < (process.stdout.isTTY ? 100 : 15_000)) return;
    this.#drawn = now;
    process.stdout.write(process.stdout.isTTY ? `\r${ESC}[K${this.#last}` : `${this.#last}\n`);
  }

  /** Prints a line above the bar. */
  line(text: string): void {
    process.stdout.write(process.stdout.isTTY ? `\r${ESC}[K${text}\n${this.#last}` : `${text}\n`);
  }

  end(): void {
    if (this.#last) process.stdout.write(process.stdout.isTTY ? `\r${ESC}[K${this.#last}\n` : `${this.#last}\n`);
  }
}

/** A callback for `onProgress` of loading, which shows the progress on a line. */
export function loading(): LoadOptions["onProgress"] {
  if (!process.stderr.isTTY) return undefined;
  let drawn = 0;
  return ({ bytes, totalBytes, bytesPerSecond }) => {
    const done = bytes === totalBytes;
    if (!done && performance.now() - drawn < 100) return;
    drawn = performance.now();
    const line = `${short(bytes)}B of ${short(totalBytes)}B, ${short(bytesPerSecond)}B/s`;
    process.stderr.write(`\r${ESC}[K${dim(line)}${done ? "\n" : ""}`);
  };
}
