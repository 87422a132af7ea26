"""funcgrad.scipy: the parts of SciPy that JAX has, on funcgrad arrays."""
