import { plan, type Tensor } from "../../src/index.ts";

/** Labels of the kernels in the text of a plan, in order. */
export const labelsOf = (text: string): string[] => text.split("\n").map((line) => line.trim().split(/\s+/)[1]);

/** Labels of the kernels that computing these tensors runs, in order. */
export const kernelLabels = async (...out: Tensor[]): Promise<string[]> => labelsOf((await plan(...out))!.text);
