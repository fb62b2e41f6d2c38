import type { Case } from "../../workloads/workload.ts";
import type { Jax } from "../libraries/jax.ts";
import type { Ort } from "../libraries/ort.ts";
import type { Tfjs } from "../libraries/tfjs.ts";

/** Why a library does not run a workload. */
export interface Absent {
  readonly absent: string;
}
export const absent = (reason: string): Absent => ({ absent: reason });

type Variant<L> = (library: L, inputs: any) => Promise<Case> | Case | Absent;

/** One workload in each peer, with the inputs of bench/workloads. */
export interface Variants {
  readonly jax: Variant<Jax>;
  readonly tfjs: Variant<Tfjs>;
  readonly ort: Variant<Ort>;
}
