"""Linear algebra on batches of matrices: a module for each factorization, which declares its primitives."""
