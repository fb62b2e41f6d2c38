import * as sg from "../../../src/index.ts";
import { type Call, method, options } from "./call.ts";

export const shape: Record<string, Call> = {
  broadcast_to: ({ x }, attrs) => x.broadcastTo(attrs.shape),
  diag: ({ x }, { diagonal }) => x.diag(diagonal),
  diag_embed: ({ x }, attrs) => x.diagEmbed(options(attrs)),
  diagonal: ({ x }, attrs) => x.diagonal(options(attrs)),
  diff: ({ x }, attrs) => x.diff(options(attrs)),
  dstack: (x) => sg.dstack(Object.values(x)),
  expand_as: ({ x, other }) => x.expandAs(other),
  eye: (_, { n, m }) => sg.eye(n, m),
  fold: ({ x }, { size, kernel, ...attrs }) => sg.fold(x, size, kernel, options(attrs)),
  hstack: (x) => sg.hstack(Object.values(x)),
  linspace: (_, { start, end, steps }) => sg.linspace(start, end, steps),
  logspace: (_, { start, end, steps, base }) => sg.logspace(start, end, steps, { base }),
  meshgrid: (x, attrs) => sg.meshgrid(Object.values(x), options(attrs)),
  movedim: ({ x }, { source, destination }) => x.movedim(source, destination),
  pad_modes: ({ x }, { pad, ...attrs }) => sg.pad(x, pad, options(attrs)),
  repeat: ({ x }, { repeats }) => x.repeat(repeats),
  repeat_interleave_ext: ({ x, repeats }, attrs) => x.repeatInterleave(repeats ?? attrs.repeats, attrs.dim),
  roll_flip_ext: ({ x }, { fn, shifts, dims }) => (fn === "roll" ? x.roll(shifts, dims) : method(x, fn)),
  rot90: ({ x }, { k, dims }) => x.rot90(k, dims),
  swapaxes: ({ x }, { dim0, dim1 }) => x.swapaxes(dim0, dim1),
  tensor_split: ({ x }, { sections, indices, dim }) => x.tensorSplit(sections ?? indices, dim),
  tile: ({ x }, { repeats }) => x.tile(repeats),
  transpose_T: ({ x }, { fn }) => (fn === "t" ? x.t() : (x as any)[fn]),
  tri_indices: (_, { fn, row, col, offset }) =>
    (fn === "tril_indices" ? sg.trilIndices : sg.triuIndices)(row, col, offset),
  unbind: ({ x }, { dim }) => x.unbind(dim),
  unflatten: ({ x }, { dim, sizes }) => x.unflatten(dim, sizes),
  unfold: ({ x }, { kernel, ...attrs }) => sg.unfold(x, kernel, options(attrs)),
  vstack: (x) => sg.vstack(Object.values(x)),
};
