/**
 * Rounds a length up to a multiple of a quarter of the power of two below it, at least of 4. Few distinct sizes mean few plans:
 * `bucket(9)` is 12, `bucket(100)` is 112.
 */
export function bucket(count: number): number {
  const step = Math.max(16, 2 ** Math.floor(Math.log2(count))) / 4;
  return Math.ceil(count / step) * step;
}
