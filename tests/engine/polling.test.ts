import { expect, test } from "vitest";
import { patiently } from "../../src/runtime/polling.ts";

const { setImmediate: immediate } = globalThis;

/** A binding like Dawn's: polls on every iteration of the event loop, through the global, until `ms` have passed. */
function binding(ms: number): { start(): Promise<void>; polls(): number } {
  let polls = 0;
  return {
    polls: () => polls,
    start: () =>
      new Promise((resolve) => {
        const end = performance.now() + ms;
        const poll = (): void => {
          polls++;
          if (performance.now() >= end) resolve();
          else globalThis.setImmediate(poll);
        };
        globalThis.setImmediate(poll);
      }),
  };
}

test("a binding that polls is polled less often, and its promise comes hardly later", async () => {
  const eager = binding(40);
  await eager.start();
  const calm = binding(40);
  const started = performance.now();
  await patiently(() => calm.start());
  expect(performance.now() - started).toBeGreaterThanOrEqual(40);
  expect(eager.polls()).toBeGreaterThan(250);
  expect(calm.polls()).toBeLessThan(120); // 8 ms in ever longer steps, then every millisecond
});

test("the global is as it was, also while polls go on, and others' calls are theirs", async () => {
  const calm = binding(5);
  const done = patiently(() => calm.start());
  expect(globalThis.setImmediate).toBe(immediate);
  let iterations = 0;
  await new Promise<void>((resolve) => {
    const iterate = (): void => void (++iterations === 50 ? resolve() : setImmediate(iterate));
    setImmediate(iterate);
  });
  expect(globalThis.setImmediate).toBe(immediate);
  await done;
  expect(() =>
    patiently(() => {
      throw new Error("no device");
    }),
  ).toThrow("no device");
  expect(globalThis.setImmediate).toBe(immediate);
});
