/**
 * Python's pickle, as far as state dicts go. A pickle is a program: here it can make numbers, strings, tuples, lists
 * and dicts, and name the few globals that the caller gives; any other global is an error before anything is made of it.
 */

/** A function that a pickle may call by name. */
export type Reduce = (...args: any[]) => unknown;

/** A global that a pickle may name: something to call, or a value. */
export type Globals = ReadonlyMap<string, unknown>;

const MARK = Symbol("mark");

/** The object that `bytes` describe. `persistent` gives the objects that are stored outside of the pickle. */
export function unpickle(
  bytes: Uint8Array,
  where: string,
  globals: Globals,
  persistent: (id: unknown[]) => unknown,
): unknown {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: unknown[] = [];
  const memo = new Map<number, unknown>();
  let at = 0;
  const fail = (what: string): never => {
    throw new Error(`${where}: ${what} (byte ${at} of the pickle)`);
  };
  const take = (length: number): number => {
    if (length < 0 || at + length > bytes.length) fail("the pickle is truncated");
    return (at += length) - length;
  };
  const byte = (): number => bytes[take(1)];
  const uint = (): number => v.getUint32(take(4), true);
  const text = (length: number): string => {
    const from = take(length);
    return new TextDecoder().decode(bytes.subarray(from, from + length));
  };
  const line = (): string => {
    const end = bytes.indexOf(10, at);
    if (end < 0) fail("the pickle is truncated");
    const found = text(end - at);
    at++;
    return found;
  };
  const long = (length: number): number => {
    const from = take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[from + i]);
    const exact = Number(BigInt.asIntN(8 * length, value));
    return Number.isSafeInteger(exact) ? exact : fail(`the integer ${exact} is too large`);
  };
  const pop = (): unknown => (stack.length ? stack.pop() : fail("the stack of the pickle is empty"));
  const toMark = (): unknown[] => {
    const from = stack.lastIndexOf(MARK);
    return from < 0 ? fail("a mark is missing") : stack.splice(from).slice(1);
  };
  const top = (): unknown => stack[stack.length - 1];
  const global = (module: string, name: string): unknown => {
    const full = `${module}.${name}`;
    return globals.has(full)
      ? globals.get(full)
      : fail(
          `the pickle asks for ${full}, which is not in the list of what a checkpoint may name; nothing was executed`,
        );
  };
  const call = (callable: unknown, args: unknown): unknown =>
    typeof callable === "function" && Array.isArray(args) ? callable(...args) : fail("a call of what is no function");
  const setItems = (items: unknown[]): void => {
    const dict = top();
    if (!(dict instanceof Map)) return fail("items for what is no dict");
    for (let i = 0; i + 1 < items.length; i += 2) dict.set(items[i], items[i + 1]);
  };
  const append = (items: unknown[]): void => {
    const list = top();
    if (!Array.isArray(list)) return fail("items for what is no list");
    for (const item of items) list.push(item);
  };

  for (;;) {
    const op = String.fromCharCode(byte());
    switch (op) {
      case "\x80": // protocol
        byte();
        break;
      case "\x95": // frame
        take(8);
        break;
      case ".":
        return pop();
      case "(":
        stack.push(MARK);
        break;
      case "0":
        pop();
        break;
      case "1":
        toMark();
        break;
      case "2":
        stack.push(top());
        break;
      case "N":
        stack.push(null);
        break;
      case "\x88":
        stack.push(true);
        break;
      case "\x89":
        stack.push(false);
        break;
      case "K":
        stack.push(byte());
        break;
      case "M":
        stack.push(v.getUint16(take(2), true));
        break;
      case "J":
        stack.push(v.getInt32(take(4), true));
        break;
      case "\x8a":
        stack.push(long(byte()));
        break;
      case "\x8b":
        stack.push(long(uint()));
        break;
      case "G":
        stack.push(v.getFloat64(take(8), false));
        break;
      case "X":
      case "B":
      case "T":
        stack.push(text(uint()));
        break;
      case "\x8c":
      case "C":
      case "U":
        stack.push(text(byte()));
        break;
      case ")":
      case "]":
        stack.push([]);
        break;
      case "}":
        stack.push(new Map());
        break;
      case "t":
      case "l":
        stack.push(toMark());
        break;
      case "d": {
        const items = toMark();
        stack.push(new Map());
        setItems(items);
        break;
      }
      case "\x85":
        stack.push([pop()]);
        break;
      case "\x86":
        stack.push([pop(), pop()].reverse());
        break;
      case "\x87":
        stack.push([pop(), pop(), pop()].reverse());
        break;
      case "a":
        append([pop()]);
        break;
      case "e":
        append(toMark());
        break;
      case "s":
        setItems([pop(), pop()].reverse());
        break;
      case "u":
        setItems(toMark());
        break;
      case "q":
        memo.set(byte(), top());
        break;
      case "r":
        memo.set(uint(), top());
        break;
      case "\x94":
        memo.set(memo.size, top());
        break;
      case "h":
        stack.push(memo.get(byte()));
        break;
      case "j":
        stack.push(memo.get(uint()));
        break;
      case "c":
        stack.push(global(line(), line()));
        break;
      case "\x93": {
        const [name, module] = [pop(), pop()];
        stack.push(global(String(module), String(name)));
        break;
      }
      case "R": {
        const args = pop();
        stack.push(call(pop(), args));
        break;
      }
      case "b": // attributes of an object, such as the versions that a state dict carries: of no use here
        pop();
        break;
      case "Q": {
        const id = pop();
        stack.push(persistent(Array.isArray(id) ? id : [id]));
        break;
      }
      default:
        fail(`the pickle has the instruction 0x${op.charCodeAt(0).toString(16)}, which state dicts do not use`);
    }
  }
}
