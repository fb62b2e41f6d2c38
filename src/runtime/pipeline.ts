import { bindings } from "../compile/codegen/template.ts";
import { log } from "./profile.ts";

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** Compiled kernels by their text; identical WGSL is compiled once, in parallel with the rest of its plan. */
export class PipelineCache {
  private readonly pipelines = new Map<string, Promise<Pipeline>>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();

  constructor(
    private readonly device: GPUDevice,
    private readonly wait: <T>(ask: () => Promise<T>) => Promise<T> = (ask) => ask(),
  ) {}

  get size(): number {
    return this.pipelines.size;
  }

  get(code: string, label: string): Promise<Pipeline> {
    let pipeline = this.pipelines.get(code);
    if (!pipeline) this.pipelines.set(code, (pipeline = this.compile(code, label)));
    return pipeline;
  }

  private async compile(code: string, label: string): Promise<Pipeline> {
    log(4, `${label}\n${code}`);
    const layout = this.layoutFor(code);
    const module = this.device.createShaderModule({ code, label });
    try {
      const pipeline = await this.wait(() =>
        this.device.createComputePipelineAsync({
          label,
          layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
          compute: { module, entryPoint: "main" },
        }),
      );
      return { pipeline, layout };
    } catch (error) {
      const { messages } = await module.getCompilationInfo();
      const details = messages.map((m) => `${m.lineNum}:${m.linePos} ${m.type}: ${m.message}`).join("\n");
      throw new Error(`kernel ${label} does not compile: ${(error as Error).message}\n${details}\n${code}`);
    }
  }

  /** Explicit layouts, so that a binding which a specialised kernel ignores is still allowed in its bind group. */
  private layoutFor(code: string): GPUBindGroupLayout {
    const kinds = bindings(code).map((b) => b.kind);
    const key = kinds.join();
    let layout = this.layouts.get(key);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        entries: kinds.map((kind, binding) => ({
          binding,
          visibility: 4, // GPUShaderStage.COMPUTE
          buffer: { type: kind === "uniform" ? "uniform" : kind === "read" ? "read-only-storage" : "storage" },
        })),
      });
      this.layouts.set(key, layout);
    }
    return layout;
  }
}
