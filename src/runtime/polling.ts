const SHARE = 1 / 8; // of the time waited so far: how long the next poll may come late
const [LEAST, MOST] = [0.05, 1]; // milliseconds between polls
const LONG = 1 / 64; // the share once that is more, as for seconds of compilation

type Immediate = (poll: () => void) => unknown;

let since = 0;
/** Brings a poll forward that waits for a timer. */
let hasten: (() => void) | undefined;
let cell: Int32Array<SharedArrayBuffer> | undefined; // made where something polls: pages have no shared memory

/**
 * Calls `ask`, which asks the GPU for a promise, without the price of waiting for it in Node: Dawn's binding there polls
 * on every turn of the event loop while a promise is open, through `globalThis.setImmediate`. On a software adapter
 * this takes a core from the very threads that are waited for. Its polls are put further and further apart instead;
 * where nothing polls in this way (browsers, Deno), nothing changes.
 */
export function patiently<T>(ask: () => T): T {
  since = performance.now();
  const asked = paced(ask);
  hasten?.(); // a short wait must not take as long as the long one before it
  return asked;
}

/** Runs `call` with Dawn's next poll, if it asks for one, coming later. */
function paced<T>(call: () => T): T {
  const scope = globalThis as unknown as { setImmediate?: Immediate };
  const immediate = scope.setImmediate;
  if (!immediate) return call();
  scope.setImmediate = (poll) => {
    const next = (): void => paced(poll);
    const waited = performance.now() - since;
    const pause = Math.max(LEAST, Math.min(MOST, SHARE * waited));
    if (pause >= MOST) return later(next, Math.max(MOST, LONG * waited), immediate);
    // Timers are too coarse: the thread itself sleeps, some milliseconds in all.
    return immediate(() => {
      Atomics.wait((cell ??= new Int32Array(new SharedArrayBuffer(4))), 0, 0, pause);
      next();
    });
  };
  try {
    return call();
  } finally {
    scope.setImmediate = immediate;
  }
}

function later(next: () => void, pause: number, immediate: Immediate): unknown {
  const timer = setTimeout(() => {
    hasten = undefined;
    next();
  }, pause);
  hasten = () => {
    hasten = undefined;
    clearTimeout(timer);
    immediate(next);
  };
  return timer;
}
