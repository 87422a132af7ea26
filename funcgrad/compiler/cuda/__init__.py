"""The CUDA target: loops to kernels that numba.cuda compiles."""
