import { bindings } from "../compile/codegen/template.ts";
import { log } from "./profile.ts";

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** What compiles kernels: a `Device`. */
interface Compiler {
  readonly gpu: GPUDevice;
  wait<T>(ask: () => Promise<T>): Promise<T>;
  guard<T>(calls: () => T): Promise<T>;
}

/** Compiled kernels by their text; identical WGSL is compiled once, in parallel with the rest of its plan. */
export class PipelineCache {
  private readonly pipelines = new Map<string, Promise<Pipeline>>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();

  constructor(private readonly device: Compiler) {}

  get size(): number {
    return this.pipelines.size;
  }

  get(code: string, label: string): Promise<Pipeline> {
    let pipeline = this.pipelines.get(code);
    if (!pipeline) {
      this.pipelines.set(code, (pipeline = this.compile(code, label)));
      pipeline.catch(() => this.pipelines.delete(code)); // who asked reports it
    }
    return pipeline;
  }

  private async compile(code: string, label: string): Promise<Pipeline> {
    log(4, `${label}\n${code}`);
    const { gpu } = this.device;
    let module: GPUShaderModule | undefined;
    let pipeline: Promise<GPUComputePipeline> | undefined;
    try {
      const layout = await this.device.guard(() => {
        const made = this.layoutFor(code);
        module = gpu.createShaderModule({ code, label });
        const descriptor = {
          label,
          layout: gpu.createPipelineLayout({ bindGroupLayouts: [made] }),
          compute: { module, entryPoint: "main" },
        };
        pipeline = this.device.wait(() => gpu.createComputePipelineAsync(descriptor));
        pipeline.catch(() => undefined); // a faulty module is reported by the guard
        return made;
      });
      return { pipeline: await pipeline!, layout };
    } catch (error) {
      this.layouts.delete(kindsOf(code));
      const messages = (await module?.getCompilationInfo().catch(() => undefined))?.messages ?? [];
      const details = messages.map((m) => `${m.lineNum}:${m.linePos} ${m.type}: ${m.message}`).join("\n");
      throw new Error(`kernel ${label} does not compile: ${(error as Error).message}\n${details}\n${code}`);
    }
  }

  /** Explicit layouts, so that a binding which a specialised kernel ignores is still allowed in its bind group. */
  private layoutFor(code: string): GPUBindGroupLayout {
    const key = kindsOf(code);
    let layout = this.layouts.get(key);
    if (!layout) {
      layout = this.device.gpu.createBindGroupLayout({
        entries: bindings(code).map(({ kind }, binding) => ({
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

const kindsOf = (code: string): string =>
  bindings(code)
    .map(({ kind }) => kind)
    .join();
