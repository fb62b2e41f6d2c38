import { expect } from "vitest";

/** Largest |got - want| / max(1, |want|); infinite where one is NaN or infinite and the other is not the same. */
export function worstError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) throw new Error(`${got.length} values, expected ${want.length}`);
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    if (Object.is(got[i], want[i]) || got[i] === want[i]) continue;
    const error = Math.abs(got[i] - want[i]) / Math.max(1, Math.abs(want[i]));
    worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
  }
  return worst;
}

/** As many numbers, each the same to so many decimal places. */
export function expectDigits(got: readonly number[], want: readonly number[], digits = 6): void {
  expect(got.length).toBe(want.length);
  got.forEach((x, i) => expect(x, `element ${i}`).toBeCloseTo(want[i], digits));
}

/** Every value of every list is within `tolerance`, relative to max(1, |want|). */
export function expectClose(
  { got, want }: { got: readonly ArrayLike<number>[]; want: readonly ArrayLike<number>[] },
  tolerance: number,
): void {
  expect(got.length).toBe(want.length);
  got.forEach((values, k) => expect(worstError(values, want[k]), `output ${k}`).toBeLessThanOrEqual(tolerance));
}
