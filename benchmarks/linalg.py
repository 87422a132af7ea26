"""Linear algebra and Fourier transforms: `python -m benchmarks.linalg [words]` against JAX, NumPy in the last column.

Rows and measuring are those of `benchmarks.ordering`. The gradient of the marginal likelihood has no equivalent in
NumPy: there, the last column is the loss alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.frameworks import Framework
from benchmarks.ordering import Case, table

SIZES = ((10_000, 8), (100, 64), (1, 512))


def _marginal_likelihood(np: Any, length: Any, noise: Any, x: Any, y: Any) -> Any:
    """Minus the log marginal likelihood of a Gaussian process with a squared exponential kernel."""
    covariance = np.exp(-0.5 * ((x[:, None] - x[None]) / length) ** 2) + noise * np.eye(len(x), dtype=x.dtype)
    factor = np.linalg.cholesky(covariance)
    return 0.5 * y @ np.linalg.solve(covariance, y) + np.sum(np.log(np.diagonal(factor)))


def cases() -> list[Case]:
    """Return all cases."""
    rng = numpy.random.default_rng(0)

    def floats(*shape: int) -> numpy.ndarray:
        return rng.standard_normal(shape, numpy.float32)

    def case(name: str, f: Callable[..., Any], *arguments: numpy.ndarray) -> Case:
        return Case(name, lambda fw: lambda *a: f(fw.np, *a), lambda *a: f(numpy, *a), arguments)

    out = []
    for batch, n in SIZES:
        general = floats(batch, n, n)
        positive = general @ general.swapaxes(1, 2) + n * numpy.eye(n, dtype=numpy.float32)
        size = f"{batch} of {n} × {n}"
        out += [
            case(f"cholesky, {size}", lambda np, a: np.linalg.cholesky(a), positive),
            case(f"solve, {size}", lambda np, a, b: np.linalg.solve(a, b), positive, floats(batch, n, 1)),
            case(f"qr, {size}", lambda np, a: np.linalg.qr(a), general),
            case(f"eigh, {size}", lambda np, a: np.linalg.eigh(a), positive),
            case(f"svd, {size}", lambda np, a: np.linalg.svd(a), general),
        ]
    process = numpy.float32(1), numpy.float32(0.1), numpy.sort(5 * floats(500)), floats(500)

    def gradient(fw: Framework) -> Callable[..., Any]:
        return fw.lib.value_and_grad(lambda *a: _marginal_likelihood(fw.np, *a), (0, 1))

    return [
        *out,
        Case("marginal likelihood", gradient, lambda *a: _marginal_likelihood(numpy, *a), process),
        case("real Fourier transform and back", lambda np, x: np.fft.irfft(np.fft.rfft(x)), floats(200, 4096)),
    ]


if __name__ == "__main__":
    table(cases(), sys.argv[1:])
