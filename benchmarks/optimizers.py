"""Updates of a tree of a hundred leaves: `python -m benchmarks.optimizers [names]` against JAX with optax.

Each step is jitted. Figures are processor time in microseconds, the least of batches that take turns; `leaves of one
element` is what a call costs without arithmetic.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import best_in_turns

TREES = {
    "64 × 64 and 64": [(64, 64) if i % 2 else (64,) for i in range(100)],
    "leaves of one element": [(1,)] * 100,
}
NAMES = ("sgd", "adam", "adamw", "lamb", "lion", "adafactor")


def step_of(lib: Any, optim: Any, name: str, params: dict[str, np.ndarray]) -> Callable[[], Any]:
    """Return a call of the jitted update, with its arguments."""
    optimizer = getattr(optim, name)(1e-3)

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    compiled = lib.jit(step)
    arrays = lib.tree.map(lib.numpy.asarray, params)
    state = optimizer.init(arrays)
    return lambda: lib.block_until_ready(compiled(arrays, state, arrays))


def main() -> None:
    """Print one line per tree and optimizer."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import optax

    import funcgrad
    from funcgrad import optim

    rng = np.random.default_rng(0)
    print(f"{'tree':24} {'optimizer':12} {'funcgrad':>9} {'JAX':>9} {'ratio':>6}")
    for title, shapes in TREES.items():
        params = {f"p{i}": rng.standard_normal(shape, np.float32) for i, shape in enumerate(shapes)}
        for name in sys.argv[1:] or NAMES:
            calls = {
                "funcgrad": step_of(funcgrad, optim, name, params),
                "jax": step_of(jax, optax, name, params),
            }
            best = best_in_turns(calls, 20, 0.02, time.process_time)
            ours, theirs = best["funcgrad"] * 1e6, best["jax"] * 1e6
            print(f"{title:24} {name:12} {ours:9.0f} {theirs:9.0f} {theirs / ours:6.2f}", flush=True)


if __name__ == "__main__":
    main()
