/** Traces in the format that Perfetto (ui.perfetto.dev) and chrome://tracing read. */

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
/** When the library last had nothing to do: the time since belongs to the program, which builds graphs. */
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

/** SHADEGRAD_TRACE=file.json: everything from here to the end of the process. */
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

/** Opens a span on the host's track; call the result to close it. Free when nothing is traced. */
export function begin(name: string): (args?: TraceEvent["args"]) => void {
  if (!tracing()) return nothing;
  const from = performance.now();
  return (args) => add(HOST, name, from, performance.now(), args);
}

/** A flush begins: the time since the last one went into building its graph. */
export function beginFlush(): () => void {
  if (!tracing()) return nothing;
  const now = performance.now();
  add(HOST, "graph", idleSince, now);
  return () => {
    add(HOST, "flush", now, performance.now());
    idleSince = performance.now();
  };
}

/** Kernels of one submit that ran between `submitted` and `done`; their own clock only counts from the first of them. */
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
