/** The last flush. Flushes run one after another. */
let tail: Promise<unknown> = Promise.resolve();

/** Runs `flush` after the flushes before it. A failed flush does not fail later ones. */
export function enqueue<T>(flush: () => Promise<T>): Promise<T> {
  const result = tail.then(flush);
  tail = result.catch(() => undefined);
  return result;
}

/** Resolves once all flushes so far are done. */
export const flushed = (): Promise<unknown> => tail;
