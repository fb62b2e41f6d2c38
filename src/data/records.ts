/** Lists of records in files: one JSON list, or one JSON value per line if the file's name ends in .jsonl. */
import { type FileSource, writeFile } from "../io/index.ts";

export interface FileRecord {
  readonly value: unknown;
  /** Its name in error messages: file and line, or file and index. */
  readonly where: string;
}

/** Reads a list of records. @throws naming the file and the line that is not JSON, or the file that is not a list. */
export async function readRecords(source: FileSource, name: string): Promise<FileRecord[]> {
  const file = `${source.location}/${name}`;
  const text = new TextDecoder().decode(await source.read(name));
  if (/\.jsonl$/.test(name)) {
    return text.split("\n").flatMap((line, i) => {
      const where = `${file}:${i + 1}`;
      return line.trim() ? [{ value: parse(line, where), where }] : [];
    });
  }
  const list = parse(text, file);
  if (!Array.isArray(list))
    throw new Error(`${file}: a JSON list of samples expected (for one sample per line name the file .jsonl)`);
  return list.map((value, i) => ({ value, where: `${file}, sample ${i}` }));
}

/** Writes a file that `readRecords` reads: a list, or lines for .jsonl. */
export async function writeRecords(source: FileSource, name: string, records: readonly unknown[]): Promise<void> {
  const text = /\.jsonl$/.test(name)
    ? records.map((record) => `${JSON.stringify(record)}\n`).join("")
    : `${JSON.stringify(records, null, 1)}\n`;
  await writeFile(source, name, [new TextEncoder().encode(text)]);
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${where}: not valid JSON: ${(error as Error).message}`);
  }
}
