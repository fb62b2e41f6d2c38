// Every entry point that gives tensors imports this file: see add.ts.
import "./activation.ts";
import "./autograd.ts";
import "./elementwise.ts";
import "./indexing.ts";
import "./linalg.ts";
import "./nonfinite.ts";
import "./shape.ts";
import "./print.ts";
import "./reduce.ts";
import "./scan.ts";
import "./sorting.ts";
