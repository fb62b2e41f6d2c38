/** What kernels and schedules may know of the adapter. Read from its limits and features; nothing is assumed. */
export interface DeviceInfo {
  /** "software" (CPU adapters), "integrated" or "discrete". */
  readonly kind: "software" | "integrated" | "discrete";
  /** Fixed subgroup size, or 0 when subgroups are absent or their size varies. */
  readonly subgroupSize: number;
  readonly f16: boolean;
  readonly timestamps: boolean;
  readonly maxInvocations: number;
  readonly maxWorkgroupBytes: number;
  readonly maxBindingBytes: number;
  readonly maxStorageBuffers: number;
  readonly description: string;
}
