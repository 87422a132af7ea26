"""The numba target: programs as modules of Python functions that numba compiles."""
