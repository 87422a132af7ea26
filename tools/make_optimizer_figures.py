"""Write tests/optim/optimizer_figures.json: what optax and PyTorch compute for the cases in that folder.

    JAX_PLATFORMS=cpu python tools/make_optimizer_figures.py

Needs JAX, optax and PyTorch. Figures are those of float64.
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import torch

from tests.optim import optimizer_cases as cases


def main() -> None:
    """Run all cases in the peers."""
    jax.config.update("jax_enable_x64", True)
    scan = jax.jit(jax.lax.scan, static_argnums=0)
    found: dict[str, dict[str, list[float]]] = {"optax": {}, "torch": {}}
    for name, make in cases.CASES.items():
        found["optax"][name] = cases.run(make, cases.Optax(), jnp, scan).tolist()
    for name, solve in cases.WITH_LOSS.items():
        found["optax"][name] = solve(cases.Optax(), jax).tolist()
    for name in cases.TORCH:
        found["torch"][name] = cases.run_torch(torch, name).tolist()
    lines = [
        f'"{peer}": {{\n'
        + ",\n".join(
            f"{json.dumps(name)}: {json.dumps([float(f'{x:.12g}') for x in xs])}" for name, xs in values.items()
        )
        + "\n}"
        for peer, values in found.items()
    ]
    cases.FIGURES.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
