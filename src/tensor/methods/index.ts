// Every entry point that gives tensors imports this file: see add.ts.
import "./autograd.ts";
import "./linalg.ts";
import "./nonfinite.ts";
