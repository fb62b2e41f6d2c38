// Traces in the JSON format of Perfetto (ui.perfetto.dev) and chrome://tracing.

/** One complete event; times in microseconds. */
export interface TraceEvent {
  readonly name: string;
  readonly ph: "X" | "M";
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

export interface Trace {
  readonly traceEvents: readonly TraceEvent[];
  readonly displayTimeUnit: "ms";
}

const HOST = 1;
const GPU = 2;
const MAX_EVENTS = 500_000; // about 100 MB of text

export interface Recording {
  readonly events: TraceEvent[];
}

const recordings = new Set<Recording>();
/** When the last flush ended. From then on the program builds the next graph. */
let idleSince = 0;

export const tracing = (): boolean => recordings.size > 0;

export function startTrace(): Recording {
  const name = (tid: number, label: string): TraceEvent[] => [
    { name: "thread_name", ph: "M", pid: 1, tid, ts: 0, args: { name: label } },
    { name: "thread_sort_index", ph: "M", pid: 1, tid, ts: 0, args: { sort_index: tid } },
  ];
  const recording = { events: [...name(HOST, "host"), ...name(GPU, "GPU kernels")] };
  recordings.add(recording);
  idleSince = performance.now();
  return recording;
}

export function stopTrace(recording: Recording): void {
  recordings.delete(recording);
}

let whole: Recording | undefined;

/** With SHADEGRAD_TRACE=file.json: traces everything from now to the exit of the process. */
export async function traceProcess(): Promise<void> {
  const path = (globalThis as { process?: { env?: Record<string, string> } }).process?.env?.SHADEGRAD_TRACE;
  if (!path || whole) return;
  const recording = (whole = startTrace());
  (await import("./node.ts")).writeAtExit(path, () => JSON.stringify(traceOf(recording)));
}

export function traceOf({ events }: Recording): Trace {
  return { traceEvents: events, displayTimeUnit: "ms" };
}

function add(tid: number, name: string, from: number, to: number, args?: TraceEvent["args"]): void {
  for (const { events } of recordings) {
    if (events.length > MAX_EVENTS) continue;
    const label = events.length === MAX_EVENTS ? `the trace ends here: ${MAX_EVENTS} events` : name;
    events.push({ name: label, ph: "X", pid: 1, tid, ts: 1000 * from, dur: 1000 * (to - from), ...(args && { args }) });
  }
}

const nothing = (): void => {};

/** Starts a span on the track of the host. The function that it returns ends it. Costs nothing while nothing is traced. */
export function begin(name: string): (args?: TraceEvent["args"]) => void {
  if (!tracing()) return nothing;
  const from = performance.now();
  return (args) => add(HOST, name, from, performance.now(), args);
}

/** Starts the span of a flush, and closes the span "graph": the time since the last flush. */
export function beginFlush(): () => void {
  if (!tracing()) return nothing;
  const now = performance.now();
  add(HOST, "graph", idleSince, now);
  return () => {
    add(HOST, "flush", now, performance.now());
    idleSince = performance.now();
  };
}

/**
 * Adds the kernels of one submit, which ran between `submitted` and `done` by the host's clock. Their own times count from the
 * start of the first kernel.
 */
export function addKernels(
  kernels: readonly {
    readonly label: string;
    readonly start: number;
    readonly ms: number;
    readonly args?: TraceEvent["args"];
  }[],
  submitted: number,
  done: number,
): void {
  const end = Math.max(...kernels.map((k) => k.start + k.ms));
  const at = Math.min(submitted, done - end);
  for (const k of kernels) add(GPU, k.label, at + k.start, at + k.start + k.ms, k.args);
}
