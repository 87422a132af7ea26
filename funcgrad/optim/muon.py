"""Muon: momentum, orthogonalized by Newton–Schulz iterations, for matrices; AdamW for all other parameters.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import tree
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.optim.adaptive_optimizers import adamw
from funcgrad.optim.base import (
    Optimizer,
    Schedule,
    average,
    cast_like,
    check_params,
    check_state,
    each_leaf,
    increment,
    numbers,
    stateless,
    zero_count,
    zeros,
)
from funcgrad.optim.combine import chain, partition
from funcgrad.optim.moments import corrected_mean
from funcgrad.optim.scaling import scale_by_learning_rate
from funcgrad.optim.steps import add_decayed_weights

NS_COEFFS: dict[str, Any] = {
    "standard": (3.4445, -4.7750, 2.0315),
    "dion": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}
"""Coefficients of the Newton–Schulz iterations by name."""


class MuonDimensionNumbers(NamedTuple):
    """The axes of a parameter that are the rows (inputs) and columns (outputs) of its matrices. Others are batches."""

    reduction_axis: Sequence[int] | int = 0
    output_axis: Sequence[int] | int = 1


class MuonState(NamedTuple):
    """The number of updates, the momentum, and the coefficients."""

    count: Any
    mu: Any
    ns_coeffs: Any


def _axes(x: Any, numbers: MuonDimensionNumbers) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rows, columns = (tuple(a % x.ndim for a in ((axes,) if isinstance(axes, int) else axes)) for axes in numbers)
    if set(rows) & set(columns):
        raise ArgumentError(
            f"muon: axes {rows} and {columns} of a parameter {aval_of(x)} overlap",
            fix="reduction_axis and output_axis of MuonDimensionNumbers must differ",
        )
    return rows, columns


def _as_matrices(x: Any, numbers: MuonDimensionNumbers) -> tuple[Any, Callable[[Any], Any]]:
    """Return x as a batch of matrices, and the inverse function."""
    if x.ndim < 2:
        raise ShapeError(f"muon: a parameter is {aval_of(x)}", fix="leave vectors and scalars to Adam")
    rows, columns = _axes(x, numbers)
    batch = tuple(a for a in range(x.ndim) if a not in rows + columns)
    order = batch + rows + columns
    sizes = [[x.shape[a] for a in axes] for axes in (batch, rows, columns)]
    inverse = [order.index(a) for a in range(x.ndim)]
    matrices = x.transpose(order).reshape([math.prod(s) for s in sizes])
    return matrices, lambda y: y.reshape([n for s in sizes for n in s]).transpose(inverse)


def _scaled(gram: Any, preconditioning: str, eps: float) -> Any:
    """The factors of the rows of x that the first iteration applies, given x xᵀ."""
    if preconditioning == "aol":
        return jnp.maximum(jnp.abs(gram).sum(-1, keepdims=True), eps) ** -0.5
    return jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(jnp.abs(gram)), (-2, -1), keepdims=True)), eps) ** -0.5


_NORMS: dict[str, Callable[[Any], Any] | None] = {
    "frobenius": lambda x: jnp.sqrt(jnp.sum(jnp.square(jnp.abs(x)), (-2, -1), keepdims=True)),
    # LAPACK has no half precision.
    "spectral": lambda x: jnp.linalg.svd(x.astype(jnp.promote_types(x.dtype, "float32")), compute_uv=False)[
        ..., :1, None
    ],
    "aol": None,
    "schatten": None,
}


def orthogonalize_via_newton_schulz(
    x: Any,
    ns_coeffs: Any,
    ns_steps: int = 5,
    preconditioning: str = "frobenius",
    eps: float = 1e-8,
    dimension_numbers: MuonDimensionNumbers | None = None,
) -> Any:
    """Bring the singular values of matrices close to 1: x ← a·x + (b·A + c·A²)x with A = x xᵀ, ns_steps times.

    x is divided by its norm first ("frobenius" or "spectral"), or scaled by the rows of A in the first iteration
    ("aol", "schatten"). ns_coeffs are (a, b, c), or a row of them for each step. With (a, b, c) = (2, −1.5, 0.5), the
    iteration converges to the orthogonal factor of the polar decomposition:

    >>> x = jnp.array([[3.0, 0.0], [0.0, -1.0]])
    >>> orthogonalize_via_newton_schulz(x, (2.0, -1.5, 0.5), 12).round(3)
    Array([[ 1.,  0.],
           [ 0., -1.]], dtype=float32)
    """
    if preconditioning not in _NORMS:
        raise ArgumentError(f"muon: preconditioning is {preconditioning!r}", fix=f"choose one of {', '.join(_NORMS)}")
    coefficients = jnp.asarray(ns_coeffs, jnp.result_type(x))
    if coefficients.shape[-1:] != (3,) or coefficients.ndim > 2:
        raise ShapeError(f"muon: ns_coeffs is {aval_of(coefficients)}", fix="give (a, b, c), or a row of them per step")
    rows = [coefficients] * ns_steps if coefficients.ndim == 1 else list(coefficients)
    y, inverse = _as_matrices(jnp.asarray(x), dimension_numbers or MuonDimensionNumbers())
    wide = y.shape[-2] <= y.shape[-1]
    y = y if wide else y.mT
    norm = _NORMS[preconditioning]
    y = y if norm is None else y / (norm(y) + eps)
    for i, (a, b, c) in enumerate(rows):
        gram = y @ jnp.conj(y.mT)
        if norm is None and i == 0:
            s = _scaled(gram, preconditioning, eps)
            y, gram = y * s, gram * s * s.mT
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    return inverse(y if wide else y.mT)


def scale_by_muon(
    ns_coeffs: Any = NS_COEFFS["standard"],
    ns_steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Any = None,
) -> Optimizer:
    """Muon: m ← βm + (1 − β)g; the update is m̂ after `orthogonalize_via_newton_schulz`.

    With `nesterov`, m̂ is as in `scale_by_adam`. `adaptive` multiplies the update by its inner product with m̂.
    `weight_dimension_numbers` are `MuonDimensionNumbers`, a pytree of them, or a function from updates to one.
    """
    numbers("scale_by_muon", beta=beta, eps=eps)

    def init(params: Any) -> MuonState:
        check_params("scale_by_muon", params)
        coefficients = jnp.asarray(ns_coeffs)
        if coefficients.ndim == 2 and coefficients.shape[0] < ns_steps:
            raise ShapeError(
                f"muon: {coefficients.shape[0]} rows of ns_coeffs for {ns_steps} steps", fix="give a row for each step"
            )
        coefficients = coefficients[-ns_steps:] if coefficients.ndim == 2 else coefficients
        return MuonState(zero_count(), tree.map(zeros(mu_dtype), params), coefficients)

    def update(updates: Any, state: MuonState, params: Any = None, **_: Any) -> tuple[Any, MuonState]:
        check_state("scale_by_muon", state, MuonState)
        count = increment(state.count)
        mean = corrected_mean(beta, nesterov, count * 1.0)
        mu = each_leaf("scale_by_muon", lambda g, m: average(beta, g, m), updates=updates, mu=state.mu)

        def step(g: Any, m: Any, axes: Any) -> Any:
            direction = mean(m, g)
            y = orthogonalize_via_newton_schulz(direction, state.ns_coeffs, ns_steps, preconditioning, eps, axes)
            return cast_like(jnp.sum(jnp.conj(direction) * y) * y if adaptive else y, g)

        leaves, treedef = tree.flatten(updates)
        axes = _dimension_numbers(weight_dimension_numbers, updates)
        moved = treedef.unflatten(map(step, leaves, tree.leaves(mu), axes))
        return moved, MuonState(count, cast_like(mu, state.mu), state.ns_coeffs)

    return Optimizer(init, update)


def _dimension_numbers(spec: Any, params: Any) -> list[MuonDimensionNumbers | None]:
    """The dimension numbers of each leaf of the parameters, or None."""
    spec = spec(params) if callable(spec) else spec
    leaves, prefix = tree.flatten(spec, lambda x: x is None or isinstance(x, MuonDimensionNumbers))
    parts = tree.subtrees("muon", prefix, params, "the dimension numbers", "params")
    return [numbers for numbers, part in zip(leaves, parts, strict=True) for _ in tree.leaves(part)]


def scale_by_shape(weight_dimension_numbers: Any = None, consistent_rms: float | None = None) -> Optimizer:
    """Multiply each update by √max(1, outputs / inputs), or by consistent_rms·√max(inputs, outputs).

    The latter gives all updates the root mean square consistent_rms; 0.2 is that of AdamW.

    Source: Liu et al., "Muon is scalable for LLM training", 2025.
    """

    def scaled(g: Any, axes: MuonDimensionNumbers | None) -> Any:
        inputs, outputs = (math.prod(g.shape[a] for a in group) for group in _axes(g, axes or MuonDimensionNumbers()))
        if consistent_rms is None:
            return g * math.sqrt(max(1, outputs / inputs))
        return g * (math.sqrt(max(inputs, outputs)) * consistent_rms)

    def update(updates: Any, params: Any) -> Any:
        leaves, treedef = tree.flatten(updates)
        return treedef.unflatten(map(scaled, leaves, _dimension_numbers(weight_dimension_numbers, updates)))

    return stateless(update)


def muon(
    learning_rate: float | Schedule,
    ns_coeffs: Any = NS_COEFFS["standard"],
    ns_steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: float = 0.9,
    adam_b2: float = 0.999,
    adam_eps_root: float = 0.0,
    adam_weight_decay: float = 0.0,
    adam_learning_rate: float | Schedule | None = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: float | None = None,
) -> Optimizer:
    """Muon for matrices: θ ← θ − η·(√max(1, out / in)·NS(m̂) + weight_decay·θ); AdamW for all other parameters.

    NS orthogonalizes the momentum m̂ (see `scale_by_muon`); `consistent_rms` changes the factor (see `scale_by_shape`).
    `ns_coeffs` may also be "standard" or "dion". By default, the parameters with two axes are the matrices, of shape
    (in, out). `muon_weight_dimension_numbers` selects others: a pytree with `MuonDimensionNumbers` for parameters that
    are matrices or batches of them, and None for those of AdamW; or a function from parameters to one.

    PyTorch's `torch.optim.Muon` has no AdamW inside, matrices of shape (out, in), and no bias correction.

    >>> optimizer = muon(0.1, nesterov=False)
    >>> params = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
    >>> grads = {"kernel": jnp.array([[4.0, 0.0], [0.0, 1.0]]), "bias": jnp.ones(2)}
    >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
    >>> updates["bias"]
    Array([-0.1, -0.1], dtype=float32)

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    if isinstance(ns_coeffs, str):
        if ns_coeffs not in NS_COEFFS:
            raise ArgumentError(f"muon: ns_coeffs is {ns_coeffs!r}", fix=f"choose one of {', '.join(NS_COEFFS)}")
        ns_coeffs = NS_COEFFS[ns_coeffs]

    def dimension_numbers(params: Any) -> Any:
        treedef = tree.structure(params)
        if muon_weight_dimension_numbers is None:
            return tree.map(lambda p: MuonDimensionNumbers() if jnp.ndim(p) == 2 else None, params)
        return treedef.unflatten(_dimension_numbers(muon_weight_dimension_numbers, params))

    def labels(params: Any) -> Any:
        chosen = _dimension_numbers(dimension_numbers, params)
        return tree.structure(params).unflatten("adam" if axes is None else "muon" for axes in chosen)

    matrices = chain(
        scale_by_muon(
            ns_coeffs,
            ns_steps,
            beta,
            eps,
            mu_dtype,
            nesterov=nesterov,
            adaptive=adaptive,
            preconditioning=preconditioning,
            weight_dimension_numbers=dimension_numbers,
        ),
        scale_by_shape(dimension_numbers, consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        adam_b1,
        adam_b2,
        eps,
        adam_eps_root,
        mu_dtype,
        adam_weight_decay,
        nesterov=nesterov,
    )
    return partition({"muon": matrices, "adam": others}, labels)
