import * as sg from "../../../src/index.ts";
import type { Call, Inputs } from "./call.ts";

/** The list of the file in the spelling of `at`. */
const indexOf = (x: Inputs, index: readonly any[]): sg.AtIndex[] =>
  index.map((i) => (typeof i !== "object" ? i : (i.slice ?? x[i.tensor])));

export const indexing: Record<string, Call> = {
  at: (x, { index }) => x.x.at(...indexOf(x, index)),
  at_set: (x, { index, value }) => x.x.atSet(indexOf(x, index), value ?? x.values),
  embedding_bag: ({ ids, weight, offsets, weights }, { mode, padding_idx, include_last_offset }) =>
    sg.embeddingBag(ids, weight, {
      mode,
      offsets,
      perSampleWeights: weights,
      paddingIdx: padding_idx,
      includeLastOffset: include_last_offset,
    }),
  embedding_ext: ({ ids, weight }, { padding_idx }) => sg.embedding(ids, weight, { paddingIdx: padding_idx }),
  index_copy: ({ x, index, src }, { dim }) => x.indexCopy(dim, index, src),
  index_fill: ({ x, index }, { dim, value }) => x.indexFill(dim, index, value),
  index_put: ({ x, idx0, idx1, values }, { accumulate }) =>
    x.indexPut(idx1 ? [idx0, idx1] : [idx0], values, { accumulate }),
  masked_scatter: ({ x, mask, src }) => x.maskedScatter(mask, src),
  masked_select: ({ x, mask }) => x.maskedSelect(mask),
  nonzero: ({ x }) => x.nonzero(),
  one_hot: ({ ids }, { num_classes }) => sg.oneHot(ids, num_classes),
  scatter: ({ x, index, src }, { dim, value }) => x.scatter(dim, index, value ?? src),
  scatter_reduce: ({ x, index, src }, { dim, reduce, include_self }) =>
    x.scatterReduce(dim, index, src, reduce, { includeSelf: include_self }),
  take: ({ x, index }) => x.take(index),
  take_along_dim: ({ x, index }, { dim }) => x.takeAlongDim(index, dim),
};
