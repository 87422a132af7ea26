"""funcgrad against JAX: the same user-level code on both, timed in alternation. Run `python -m benchmarks --help`."""
