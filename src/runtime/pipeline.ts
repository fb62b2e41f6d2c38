import type { BindingKind } from "../compile/codegen/template.ts";
import { log } from "../graph/debug.ts";
import type { Origin } from "../graph/op.ts";

/** The parts of a kernel that determine its pipeline. */
export interface Shader {
  readonly label: string;
  readonly code: string;
  /** Kind of each binding. */
  readonly kinds: readonly BindingKind[];
  /** Where the user's ops and kernels in it were defined. */
  readonly origins?: readonly Origin[];
}

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** The layouts that kernels with the same kinds of bindings share. */
interface Layouts {
  readonly group: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}

/** The methods of `Device` that compilation needs. */
interface Compiler {
  readonly gpu: GPUDevice;
  wait<T>(ask: () => Promise<T>): Promise<T>;
  guard<T>(calls: () => T): Promise<T>;
}

const BUFFER_TYPE: Record<BindingKind, GPUBufferBindingType> = {
  uniform: "uniform",
  read: "read-only-storage",
  read_write: "storage",
};

/** Compiled kernels by their WGSL. Equal WGSL is compiled once, in parallel with the rest of its plan. */
export class PipelineCache {
  private readonly pipelines = new Map<string, Promise<Pipeline>>();
  private readonly layouts = new Map<string, Layouts>();

  constructor(private readonly device: Compiler) {}

  get size(): number {
    return this.pipelines.size;
  }

  get(shader: Shader): Promise<Pipeline> {
    const { code } = shader;
    let pipeline = this.pipelines.get(code);
    if (!pipeline) {
      this.pipelines.set(code, (pipeline = this.compile(shader)));
      pipeline.catch(() => this.pipelines.delete(code)); // the caller reports it
    }
    return pipeline;
  }

  private async compile(shader: Shader): Promise<Pipeline> {
    const { code, label, kinds } = shader;
    log(4, `${label}\n${code}`);
    const { gpu } = this.device;
    let module: GPUShaderModule | undefined;
    let pipeline: Promise<GPUComputePipeline> | undefined;
    try {
      const layout = await this.device.guard(() => {
        const { group, pipeline: layout } = this.layoutsFor(kinds);
        module = gpu.createShaderModule({ code, label });
        const descriptor = {
          label,
          layout,
          compute: { module, entryPoint: "main" },
        };
        pipeline = this.device.wait(() => gpu.createComputePipelineAsync(descriptor));
        pipeline.catch(() => undefined); // a faulty module is reported by the guard
        return group;
      });
      return { pipeline: await pipeline!, layout };
    } catch (error) {
      this.layouts.delete(kinds.join());
      const messages = (await module?.getCompilationInfo().catch(() => undefined))?.messages ?? [];
      throw new Error(compileError(shader, (error as Error).message, messages));
    }
  }

  /** Layouts are explicit: a specialised kernel may ignore a binding that its bind group still holds. */
  private layoutsFor(kinds: readonly BindingKind[]): Layouts {
    const key = kinds.join();
    let known = this.layouts.get(key);
    if (!known) {
      const group = this.device.gpu.createBindGroupLayout({
        entries: kinds.map((kind, binding) => ({
          binding,
          visibility: 4, // GPUShaderStage.COMPUTE
          buffer: { type: BUFFER_TYPE[kind] },
        })),
      });
      known = { group, pipeline: this.device.gpu.createPipelineLayout({ bindGroupLayouts: [group] }) };
      this.layouts.set(key, known);
    }
    return known;
  }
}

/** The compiler's messages with the lines that they name, and where the user's part of the shader comes from. */
function compileError(
  { code, label, origins = [] }: Shader,
  reason: string,
  messages: readonly GPUCompilationMessage[],
): string {
  const lines = code.split("\n");
  const details = messages.map(({ lineNum, linePos, type, message }) => {
    const line = lines[lineNum - 1] ?? "";
    const own = origins.find(({ wgsl }) => line.trim() && wgsl?.split("\n").includes(line));
    const where = own ? ` (line ${own.wgsl!.split("\n").indexOf(line) + 1} of the WGSL from ${own.place})` : "";
    return `${lineNum}:${linePos} ${type}: ${message}${where}\n    ${line.trim()}`;
  });
  const defined = origins.map(({ place }) => `defined ${place}`);
  return [`kernel ${label} does not compile: ${reason}`, ...defined, ...details, code].join("\n");
}
