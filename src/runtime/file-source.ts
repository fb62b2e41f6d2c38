/**
 * A folder of files: on disk, on a web server or in memory. Checkpoints are read and written through it,
 * so nothing above knows where the bytes live. Paths are relative, with `/` between parts; one that leaves the folder is an error.
 */
export interface FileSource {
  /** What error messages call this place. */
  readonly location: string;
  /** Bytes [start, end) of a file; the whole file by default. Throws when the file does not exist. */
  read(path: string, start?: number, end?: number): Promise<Uint8Array>;
  /** Size in bytes, or undefined when there is no such file. */
  size(path: string): Promise<number | undefined>;
  /** Writes a whole file, or nothing: a reader never sees a part of it. Absent where one cannot write. */
  write?(path: string, chunks: ByteChunks): Promise<void>;
  /**
   * Writes several files in order and removes others. Old files stay until every new one is complete, so a failure while
   * writing changes nothing.
   */
  replace?(files: NewFiles, stale: readonly string[]): Promise<void>;
}

/** Files to write: their paths and bytes, made when their turn comes. */
export type NewFiles = Iterable<readonly [path: string, chunks: () => ByteChunks]>;

/** The bytes of a file in order. */
export type ByteChunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
