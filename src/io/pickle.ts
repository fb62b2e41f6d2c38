/**
 * The part of Python's pickle format that state dicts use. A pickle is a program for a stack machine. Here it can build numbers,
 * strings, tuples, lists and dicts, and name the globals that the caller lists. Any other global is an error, and nothing runs.
 */

/** The globals that a pickle may name: functions to call, or values. */
export type Globals = ReadonlyMap<string, unknown>;

/**
 * The object that a pickle describes. Dicts become Maps, tuples and lists arrays.
 * @param where names the file in errors
 * @param persistent gives an object that is stored outside the pickle, by its id
 * @throws if the pickle is damaged, or names anything that `globals` does not list.
 */
export function unpickle(
  bytes: Uint8Array,
  where: string,
  globals: Globals,
  persistent: (id: unknown[]) => unknown,
): unknown {
  const machine = new Machine(bytes, where, globals, persistent);
  for (;;) {
    const code = machine.byte();
    if (code === STOP) return machine.pop();
    const instruction = instructions.get(code);
    if (!instruction)
      machine.fail(`the pickle has the instruction 0x${code.toString(16)}, which state dicts do not use`);
    instruction!(machine);
  }
}

const STOP = 0x2e;
const MARK = Symbol("mark");

/** The bytes of a pickle, read in order, and the stack and memo of its program. */
class Machine {
  readonly stack: unknown[] = [];
  readonly memo = new Map<number, unknown>();
  readonly #view: DataView;
  #at = 0;

  constructor(
    readonly bytes: Uint8Array,
    readonly where: string,
    readonly globals: Globals,
    readonly persistent: (id: unknown[]) => unknown,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fail(problem: string): never {
    throw new Error(`${this.where}: ${problem} (byte ${this.#at} of the pickle)`);
  }

  /** Skips `length` bytes and returns the position of the first one. */
  take(length: number): number {
    if (length < 0 || this.#at + length > this.bytes.length) this.fail("the pickle is truncated");
    return (this.#at += length) - length;
  }

  byte(): number {
    return this.bytes[this.take(1)];
  }

  uint16(): number {
    return this.#view.getUint16(this.take(2), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.take(4), true);
  }

  int32(): number {
    return this.#view.getInt32(this.take(4), true);
  }

  float64(): number {
    return this.#view.getFloat64(this.take(8), false);
  }

  /** A little-endian integer of `length` bytes. */
  integer(length: number): number {
    const from = this.take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.bytes[from + i]);
    const exact = Number(BigInt.asIntN(8 * length, value));
    return Number.isSafeInteger(exact) ? exact : this.fail(`the integer ${exact} is too large`);
  }

  text(length: number): string {
    const from = this.take(length);
    return new TextDecoder().decode(this.bytes.subarray(from, from + length));
  }

  /** The text up to the next newline. */
  line(): string {
    const end = this.bytes.indexOf(10, this.#at);
    if (end < 0) this.fail("the pickle is truncated");
    const found = this.text(end - this.#at);
    this.#at++;
    return found;
  }

  push(value: unknown): void {
    this.stack.push(value);
  }

  pop(): unknown {
    return this.stack.length ? this.stack.pop() : this.fail("the stack of the pickle is empty");
  }

  top(): unknown {
    return this.stack[this.stack.length - 1];
  }

  /** Pops all values above the last mark, and the mark. */
  popToMark(): unknown[] {
    const from = this.stack.lastIndexOf(MARK);
    return from < 0 ? this.fail("a mark is missing") : this.stack.splice(from).slice(1);
  }

  global(module: string, name: string): unknown {
    const full = `${module}.${name}`;
    return this.globals.has(full)
      ? this.globals.get(full)
      : this.fail(
          `the pickle asks for ${full}, which is not in the list of globals that a checkpoint may name; nothing was executed`,
        );
  }

  call(callable: unknown, args: unknown): unknown {
    return typeof callable === "function" && Array.isArray(args)
      ? callable(...args)
      : this.fail("the pickle calls a value that is not a function");
  }

  /** Adds keys and values, in alternation, to the dict on top of the stack. */
  setItems(items: unknown[]): void {
    const dict = this.top();
    if (!(dict instanceof Map)) return this.fail("the pickle adds keys to a value that is not a dict");
    for (let i = 0; i + 1 < items.length; i += 2) dict.set(items[i], items[i + 1]);
  }

  /** Adds items to the list on top of the stack. */
  append(items: unknown[]): void {
    const list = this.top();
    if (!Array.isArray(list)) return this.fail("the pickle adds items to a value that is not a list");
    for (const item of items) list.push(item);
  }
}

type Instruction = (m: Machine) => void;

/** The instructions: code, name in Python's pickletools, effect. */
const table: readonly [code: string, name: string, run: Instruction][] = [
  ["\x80", "PROTO", (m) => m.take(1)],
  ["\x95", "FRAME", (m) => m.take(8)],
  ["(", "MARK", (m) => m.push(MARK)],
  ["0", "POP", (m) => m.pop()],
  ["1", "POP_MARK", (m) => m.popToMark()],
  ["2", "DUP", (m) => m.push(m.top())],
  ["N", "NONE", (m) => m.push(null)],
  ["\x88", "NEWTRUE", (m) => m.push(true)],
  ["\x89", "NEWFALSE", (m) => m.push(false)],
  ["K", "BININT1", (m) => m.push(m.byte())],
  ["M", "BININT2", (m) => m.push(m.uint16())],
  ["J", "BININT", (m) => m.push(m.int32())],
  ["\x8a", "LONG1", (m) => m.push(m.integer(m.byte()))],
  ["\x8b", "LONG4", (m) => m.push(m.integer(m.uint32()))],
  ["G", "BINFLOAT", (m) => m.push(m.float64())],
  ["X", "BINUNICODE", (m) => m.push(m.text(m.uint32()))],
  ["B", "BINBYTES", (m) => m.push(m.text(m.uint32()))],
  ["T", "BINSTRING", (m) => m.push(m.text(m.uint32()))],
  ["\x8c", "SHORT_BINUNICODE", (m) => m.push(m.text(m.byte()))],
  ["C", "SHORT_BINBYTES", (m) => m.push(m.text(m.byte()))],
  ["U", "SHORT_BINSTRING", (m) => m.push(m.text(m.byte()))],
  [")", "EMPTY_TUPLE", (m) => m.push([])],
  ["]", "EMPTY_LIST", (m) => m.push([])],
  ["}", "EMPTY_DICT", (m) => m.push(new Map())],
  ["t", "TUPLE", (m) => m.push(m.popToMark())],
  ["l", "LIST", (m) => m.push(m.popToMark())],
  ["d", "DICT", dict],
  ["\x85", "TUPLE1", (m) => m.push([m.pop()])],
  ["\x86", "TUPLE2", (m) => m.push([m.pop(), m.pop()].reverse())],
  ["\x87", "TUPLE3", (m) => m.push([m.pop(), m.pop(), m.pop()].reverse())],
  ["a", "APPEND", (m) => m.append([m.pop()])],
  ["e", "APPENDS", (m) => m.append(m.popToMark())],
  ["s", "SETITEM", (m) => m.setItems([m.pop(), m.pop()].reverse())],
  ["u", "SETITEMS", (m) => m.setItems(m.popToMark())],
  ["q", "BINPUT", (m) => m.memo.set(m.byte(), m.top())],
  ["r", "LONG_BINPUT", (m) => m.memo.set(m.uint32(), m.top())],
  ["\x94", "MEMOIZE", (m) => m.memo.set(m.memo.size, m.top())],
  ["h", "BINGET", (m) => m.push(m.memo.get(m.byte()))],
  ["j", "LONG_BINGET", (m) => m.push(m.memo.get(m.uint32()))],
  ["c", "GLOBAL", (m) => m.push(m.global(m.line(), m.line()))],
  ["\x93", "STACK_GLOBAL", stackGlobal],
  ["R", "REDUCE", reduce],
  ["b", "BUILD", (m) => m.pop()], // attributes of an object (such as the versions of a state dict) are dropped
  ["Q", "BINPERSID", persistentId],
];

const instructions: ReadonlyMap<number, Instruction> = new Map(table.map(([code, , run]) => [code.charCodeAt(0), run]));

function dict(m: Machine): void {
  const items = m.popToMark();
  m.push(new Map());
  m.setItems(items);
}

function stackGlobal(m: Machine): void {
  const [name, module] = [m.pop(), m.pop()];
  m.push(m.global(String(module), String(name)));
}

function reduce(m: Machine): void {
  const args = m.pop();
  m.push(m.call(m.pop(), args));
}

function persistentId(m: Machine): void {
  const id = m.pop();
  m.push(m.persistent(Array.isArray(id) ? id : [id]));
}
