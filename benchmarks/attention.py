"""Attention: `python -m benchmarks.attention [words]` against JAX and, where it is installed, PyTorch.

PyTorch computes its own fused attention.

Each row is the median of repetitions that alternate between the libraries, in milliseconds of processor time, which
counts all threads and does not count other processes. Ratios are the other library's time over funcgrad's. The last
columns are the temporaries of the compiled program, in MiB.

The gradients are those of a loss that needs the result of attention, so that both passes are computed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.frameworks import Framework, load
from benchmarks.timing import without_quick

ROUNDS = 9
SHAPES = [(8, 8, 256, 64), (1, 8, 2048, 64), (4, 12, 1024, 64)]  # batch, heads, queries and keys, size of a head


class Case(NamedTuple):
    """Attention of one shape, its gradients or not, with a causal mask or not."""

    shape: tuple[int, ...]
    causal: bool
    gradient: bool

    @property
    def name(self) -> str:
        """The name, of which the command line takes words."""
        return (
            f"{'×'.join(map(str, self.shape))}{' causal' * self.causal}{' gradient' if self.gradient else ' forward'}"
        )


CASES = [Case(s, c, g) for s in SHAPES for c in (False, True) for g in (False, True)]


def _program(fw: Framework, case: Case) -> Callable[..., Any]:
    """Attention as users write it."""
    numpy, nn = fw.np, importlib.import_module(f"{fw.name}.nn")
    length, size = case.shape[2:]

    def attention(q: Any, k: Any, v: Any) -> Any:
        scores = numpy.einsum("bhqd,bhkd->bhqk", q, k) / size**0.5
        if case.causal:
            scores = numpy.where(numpy.tril(numpy.ones((length, length), bool)), scores, -numpy.inf)
        return numpy.einsum("bhqk,bhkd->bhqd", nn.softmax(scores), v)

    def loss(weights: Any, *qkv: Any) -> Any:
        rows = attention(*qkv).reshape(-1, size)
        return numpy.sum((rows @ weights) ** 2)

    if case.gradient:
        return lambda weights, *qkv: fw.lib.value_and_grad(loss, (1, 2, 3))(weights, *qkv)
    return lambda weights, *qkv: attention(*qkv)


def _torch(case: Case, arrays: list[np.ndarray]) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    weights, *qkv = (torch.tensor(a) for a in arrays)
    fused = torch.nn.functional.scaled_dot_product_attention
    if not case.gradient:
        return lambda: fused(*qkv, is_causal=case.causal)
    for x in qkv:
        x.requires_grad_()

    def step() -> Any:
        out = fused(*qkv, is_causal=case.causal)
        return torch.autograd.grad(((out.reshape(-1, case.shape[3]) @ weights) ** 2).sum(), qkv)

    return step


def _row(case: Case, frameworks: list[str], rounds: int) -> str:
    rng = np.random.default_rng(0)
    size = case.shape[3]
    arrays = [
        rng.standard_normal((size, size), np.float32) / 8,
        *(rng.standard_normal(case.shape, np.float32) for _ in "qkv"),
    ]
    calls: dict[str, Callable[[], Any]] = {}
    temporaries: dict[str, float] = {}
    for fw in map(load, (name for name in frameworks if name != "torch")):
        given = [fw.array(a) for a in arrays]
        compiled = fw.lib.jit(_program(fw, case))
        calls[fw.name] = lambda f=compiled, a=given, fw=fw: fw.block(f(*a))
        memory = compiled.lower(*given).compile().memory_analysis()
        temporaries[fw.name] = memory.temp_size_in_bytes / 2**20
    if "torch" in frameworks:
        calls["torch"] = _torch(case, arrays)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    found = {name: median(t[1:]) for name, t in times.items()}
    others = "".join(f"{found[n] * 1e3:10.1f}{found[n] / found['funcgrad']:8.2f}" for n in frameworks[1:])
    memory = "".join(f"{mib:10.1f}" for mib in temporaries.values())
    return f"{case.name:32}{found['funcgrad'] * 1e3:10.1f}{others}{memory}"


def main(words: list[str]) -> None:
    """Print the table of the cases whose names have all words."""
    words, quick = without_quick(words)
    frameworks = ["funcgrad", *(name for name in ("jax", "torch") if importlib.util.find_spec(name) is not None)]
    heads = "".join(f"{name:>10}{'ratio':>8}" for name in frameworks[1:])
    held = "".join(f"{'MiB':>10}" for name in frameworks if name != "torch")
    print(f"load {os.getloadavg()[0]:.1f}\n{'':32}{'funcgrad':>10}{heads}{held}")
    for case in CASES:
        if all(word in case.name for word in words):
            print(_row(case, frameworks, 3 if quick else ROUNDS), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
