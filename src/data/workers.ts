/** Processes that read samples: child processes in Node, Deno and Bun, web workers in browsers. They never open a device. */

/** A worker, seen from the loader. */
interface Port {
  send(message: unknown): void;
  close(): void;
}

/** What a worker sends back. */
interface Reply<T> {
  readonly id: number;
  readonly samples?: T[];
  readonly error?: string;
}

/**
 * The worker's program, the same in all environments: reads samples of the module's data set and sends them back. Two lines
 * connect it to its parent.
 */
const program = `
let dataset;
const answer = async ({ module, id, positions }) => {
  try {
    if (!dataset) {
      const found = (await import(module)).default;
      dataset = typeof found === "function" ? await found() : found;
      if (!dataset) throw new Error(module + " has no default export: expected a data set, or a function that makes one");
    }
    const samples = await Promise.all(positions.map((i) => Array.isArray(dataset) ? dataset[i] : dataset.get(i)));
    send({ id, samples });
  } catch (error) {
    send({ id, error: error && error.stack ? error.stack : String(error) });
  }
};`;
const inProcess = `const parent = globalThis.process; const send = (m) => parent.send(m); parent.on("message", answer);`;
const inBrowser = `const send = (m) => self.postMessage(m); self.onmessage = ({ data }) => answer(data);`;

const runsNode = (): boolean =>
  (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node !== undefined;

export class Workers<T> {
  readonly #ports: Promise<Port>[];
  readonly #waiting = new Map<number, { resolve(samples: T[]): void; reject(error: Error): void; worker: number }>();
  #requests = 0;

  constructor(
    readonly module: string,
    count: number,
  ) {
    this.#ports = Array.from({ length: count }, (_, worker) => this.#open(worker));
    for (const port of this.#ports) port.catch(() => undefined); // reported by the first request
  }

  /** The samples at `positions`, read by the workers in turn. */
  async read(positions: readonly number[]): Promise<T[]> {
    const id = this.#requests++;
    const worker = id % this.#ports.length;
    const port = await this.#ports[worker];
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, worker });
      port.send({ module: this.module, id, positions });
    });
  }

  close(): void {
    for (const port of this.#ports) void port.then((p) => p.close());
    this.#fail(() => true, new Error("DataLoader: closed while a batch was read"));
  }

  async #open(worker: number): Promise<Port> {
    const receive = ({ id, samples, error }: Reply<T>): void => {
      const request = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) request?.reject(new Error(`DataLoader: a worker failed on ${this.module}: ${error}`));
      else request?.resolve(samples!);
    };
    const ended = (reason: string): void =>
      this.#fail((w) => w === worker, new Error(`DataLoader: a worker of ${this.module} ended: ${reason}`));
    if (runsNode()) {
      const { childProcess } = await import("../runtime/node.ts");
      return childProcess(program + inProcess, receive as (message: unknown) => void, ended);
    }
    const url = URL.createObjectURL(new Blob([program + inBrowser], { type: "text/javascript" }));
    const thread = new Worker(url, { type: "module" });
    thread.onmessage = ({ data }) => receive(data as Reply<T>);
    thread.onerror = ({ message }) => ended(message);
    return { send: (message) => thread.postMessage(message), close: () => thread.terminate() };
  }

  #fail(which: (worker: number) => boolean, error: Error): void {
    for (const [id, request] of this.#waiting) {
      if (!which(request.worker)) continue;
      this.#waiting.delete(id);
      request.reject(error);
    }
  }
}
