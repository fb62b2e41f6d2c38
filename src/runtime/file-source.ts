/**
 * A folder of files: on disk, on a web server or in memory. Checkpoints are read and written through it, so no other code
 * depends on where the bytes are. Paths are relative, with `/` between parts. A path that leaves the folder is an error.
 */
export interface FileSource {
  /** Name of the folder in error messages. */
  readonly location: string;
  /** Bytes [start, end) of a file; the whole file by default. Throws when the file does not exist. */
  read(path: string, start?: number, end?: number): Promise<Uint8Array>;
  /** Size in bytes, or undefined when there is no such file. */
  size(path: string): Promise<number | undefined>;
  /** Writes a whole file or nothing: a reader never sees part of it. Absent for read-only folders. */
  write?(path: string, chunks: ByteChunks): Promise<void>;
  /**
   * Writes several files in order, then removes others. Old files stay until all new ones are complete: a failure while
   * writing changes nothing.
   */
  replace?(files: NewFiles, stale: readonly string[]): Promise<void>;
}

/** Files to write: paths, and functions that produce the bytes of one file at a time. */
export type NewFiles = Iterable<readonly [path: string, chunks: () => ByteChunks]>;

/** The bytes of a file in order. */
export type ByteChunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
