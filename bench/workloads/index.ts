import * as attention from "./attention.ts";
import * as conv from "./conv.ts";
import * as llama from "./llama.ts";
import * as matmul from "./matmul.ts";
import * as rows from "./rows.ts";
import * as scan from "./scan.ts";
import * as train from "./train.ts";
import type { Workload } from "./workload.ts";

/** Workloads that are measured against the peers. */
export const allWorkloads: readonly Workload[] = [matmul, rows, scan, conv, attention, train, llama].flatMap(
  (f) => f.workloads,
);
