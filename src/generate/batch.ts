/** Rounds up to a multiple of 4, then of a quarter of the power of two below: few distinct sizes, so few plans. */
export function bucket(count: number): number {
  const step = Math.max(16, 2 ** Math.floor(Math.log2(count))) / 4;
  return Math.ceil(count / step) * step;
}
