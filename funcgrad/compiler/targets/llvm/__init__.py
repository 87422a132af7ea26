"""The CPU target: loops to LLVM, vector math, BLAS, threads and the program runner."""
