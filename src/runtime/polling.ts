const SHARE = 1 / 8; // the pause before a poll, as a share of the time waited so far
const [MIN_PAUSE, MAX_PAUSE] = [0.05, 1]; // milliseconds
const LONG_SHARE = 1 / 64; // the share for long waits (seconds of compilation), where it exceeds MAX_PAUSE

type Immediate = (poll: () => void) => unknown;

let since = 0;
/** The next poll is the first of its wait. It runs without a pause: error scopes have their results by then. */
let first = true;
/** Runs a poll now that waits for a timer. */
let hasten: (() => void) | undefined;
let cell: Int32Array<SharedArrayBuffer> | undefined; // created at the first poll: web pages may lack shared memory

/**
 * Calls `ask`, which returns a promise of the GPU, and makes waiting for it cheap in Node. While a promise is open, Dawn's Node
 * binding polls in every iteration of the event loop, through `globalThis.setImmediate`. On a software adapter that takes a
 * core from the threads that compute the result. So the pauses between polls grow with the time waited. In browsers and Deno
 * nothing polls this way, and nothing changes.
 */
export function patiently<T>(ask: () => T): T {
  since = performance.now();
  first = true;
  const asked = paced(ask);
  hasten?.(); // a short wait must not inherit the pause of a long wait
  return asked;
}

/** Runs `call`. If Dawn asks for a poll in it, that poll runs after a pause. */
function paced<T>(call: () => T): T {
  const scope = globalThis as unknown as { setImmediate?: Immediate };
  const immediate = scope.setImmediate;
  if (!immediate) return call();
  scope.setImmediate = (poll) => {
    const next = (): void => paced(poll);
    if (first) {
      first = false;
      return immediate(next);
    }
    const waited = performance.now() - since;
    const pause = Math.max(MIN_PAUSE, Math.min(MAX_PAUSE, SHARE * waited));
    if (pause >= MAX_PAUSE) return later(next, Math.max(MAX_PAUSE, LONG_SHARE * waited), immediate);
    // Timers are too coarse for short pauses: the thread sleeps instead, a few milliseconds per wait in total.
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
