/** A matrix shape that the adapter's matrix units multiply: [M, K] · [K, N] of `component`, accumulated in f32. */
export interface MatrixUnit {
  readonly component: "f32" | "f16";
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** The facts of an adapter that kernels and schedules use. All are read from its limits and features; none is assumed. */
export interface DeviceInfo {
  /** "software" (CPU adapters), "integrated" or "discrete". */
  readonly kind: "software" | "integrated" | "discrete";
  /** Fixed subgroup size; 0 when subgroups are absent or their size varies. */
  readonly subgroupSize: number;
  /** Whether kernels may use the type f16. */
  readonly f16: boolean;
  /** Whether elementwise work on f16 tensors is computed in f16 rather than in f32; see `InitOptions.f16`. */
  readonly f16Arithmetic: boolean;
  /** Whether WGSL has dot products of packed bytes (`packed_4x8_integer_dot_product`). */
  readonly dot4: boolean;
  /** Matrix units behind `chromium-experimental-subgroup-matrix`. Empty without shader-f16 or a fixed subgroup size. */
  readonly matrixUnits: readonly MatrixUnit[];
  /** Whether the device has timestamp queries. */
  readonly timestamps: boolean;
  /** Most invocations of a workgroup. */
  readonly maxInvocations: number;
  /** Most bytes of workgroup memory. */
  readonly maxWorkgroupBytes: number;
  /** Most bytes of one storage binding. */
  readonly maxBindingBytes: number;
  /** Most storage buffers of one kernel. */
  readonly maxStorageBuffers: number;
  /** Vendor, architecture and driver as the adapter names them. */
  readonly description: string;
}
