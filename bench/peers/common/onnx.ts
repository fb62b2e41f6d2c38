import type { Input } from "../../workloads/workload.ts";

/** A message in Protobuf's wire format, with the field types of an ONNX model. */
class Message {
  readonly bytes: number[] = [];
  varint(value: number | bigint): this {
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 127n; rest >>= 7n) this.bytes.push(Number(rest & 127n) | 128);
    this.bytes.push(Number(rest));
    return this;
  }
  int(field: number, value: number): this {
    return this.varint(field << 3).varint(value);
  }
  float(field: number, value: number): this {
    this.varint((field << 3) | 5);
    this.bytes.push(...new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }
  raw(field: number, value: Uint8Array | number[]): this {
    this.varint((field << 3) | 2).varint(value.length);
    for (const byte of value) this.bytes.push(byte);
    return this;
  }
  text(field: number, value: string): this {
    return this.raw(field, new TextEncoder().encode(value));
  }
  message(field: number, value: Message): this {
    return this.raw(field, value.bytes);
  }
}

const FLOAT = 1;
const UINT8 = 2;
const INT32 = 6;
const INT64 = 7;

/** Builds an ONNX model (opset 17 and the com.microsoft operators) node by node. */
export class Graph {
  private readonly nodes: Message[] = [];
  private readonly initializers: Message[] = [];
  private count = 0;

  constructor(private readonly inputs: Record<string, Input>) {}

  /** Adds a node, and returns the name of its first output; `unused` more are not read. Attributes are ints, floats (`{ float }`), lists of ints, or strings. */
  op(
    type: string,
    sources: string[],
    attributes: Record<string, number | number[] | string | { float: number }> = {},
    domain = "",
    unused = 0,
  ): string {
    const output = `v${this.count++}`;
    const node = new Message();
    for (const source of sources) node.text(1, source);
    node.text(2, output);
    for (let i = 0; i < unused; i++) node.text(2, `v${this.count++}`);
    node.text(3, output).text(4, type);
    for (const [name, value] of Object.entries(attributes)) {
      const attribute = new Message().text(1, name);
      if (typeof value === "number") attribute.int(3, value).int(20, 2);
      else if (typeof value === "string") attribute.text(4, value).int(20, 3);
      else if (Array.isArray(value)) {
        for (const item of value) attribute.int(8, item);
        attribute.int(20, 7);
      } else attribute.float(2, value.float).int(20, 1);
      node.message(5, attribute);
    }
    if (domain) node.text(7, domain);
    this.nodes.push(node);
    return output;
  }

  /** A constant stored in the model. */
  constant(value: Input | number[] | number): string {
    const name = `c${this.count++}`;
    const tensor = new Message();
    const data = Array.isArray(value)
      ? BigInt64Array.from(value, BigInt)
      : typeof value === "number"
        ? Float32Array.of(value)
        : value.data;
    const shape = Array.isArray(value) ? [value.length] : typeof value === "number" ? [] : value.shape;
    for (const size of shape) tensor.int(1, size);
    tensor.int(2, data instanceof BigInt64Array ? INT64 : data instanceof Int32Array ? INT32 : FLOAT);
    tensor.text(8, name).raw(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    this.initializers.push(tensor);
    return name;
  }

  /** Bytes stored in the model. */
  bytes(data: Uint8Array, shape: readonly number[]): string {
    const name = `c${this.count++}`;
    const tensor = new Message();
    for (const size of shape) tensor.int(1, size);
    this.initializers.push(tensor.int(2, UINT8).text(8, name).raw(9, data));
    return name;
  }

  /** The serialised model. */
  model(outputs: Record<string, readonly number[]>): Uint8Array {
    const value = (name: string, type: number, shape: readonly number[]) => {
      const dims = new Message();
      for (const size of shape) dims.message(1, new Message().int(1, size));
      return new Message()
        .text(1, name)
        .message(2, new Message().message(1, new Message().int(1, type).message(2, dims)));
    };
    const graph = new Message();
    for (const node of this.nodes) graph.message(1, node);
    graph.text(2, "bench");
    for (const tensor of this.initializers) graph.message(5, tensor);
    for (const [name, { data, shape }] of Object.entries(this.inputs))
      graph.message(11, value(name, data instanceof Int32Array ? INT32 : FLOAT, shape));
    for (const [name, shape] of Object.entries(outputs)) graph.message(12, value(name, FLOAT, shape));
    const opset = (domain: string, version: number) => new Message().text(1, domain).int(2, version);
    return Uint8Array.from(
      new Message().int(1, 8).message(7, graph).message(8, opset("", 17)).message(8, opset("com.microsoft", 1)).bytes,
    );
  }
}
