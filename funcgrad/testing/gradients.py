"""Checks of derivatives, vectorization and compilation against their definitions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.config import enable_x64
from funcgrad.core.array_types import aval_of
from funcgrad.testing.comparisons import assert_close, tolerance
from funcgrad.transforms.derivatives import jvp, vjp
from funcgrad.transforms.jit import jit
from funcgrad.transforms.vmap import vmap

# The step of the central difference, and its tolerance, by precision. The truncation error is of order step², the error
# from cancellation of order roundoff / step. 16-bit floats are checked like float32.
_STEP = {dtypes.float64: (1e-5, 1e-6), dtypes.float32: (1e-2, 2e-2)}
# The roundoff allowed between the two sides of ⟨Jᵀu, v⟩ = ⟨u, Jv⟩, relative to the sum of the terms.
_ADJOINT_ROUNDOFF = {dtypes.float64: 1e-10, dtypes.float32: 1e-3}


def _numpy(values: Any) -> Any:
    return tree.map(np.asarray, values)


def _is_inexact(x: Any) -> bool:
    return dtypes.is_inexact(aval_of(x).dtype)


def random_like(values: Any, seed: int = 0) -> Any:
    """Return a tree of standard normal tangents with the shapes and dtypes of `values`; float0 for integers."""
    rng = np.random.default_rng(seed)

    def one(x: Any) -> np.ndarray:
        aval = aval_of(x).tangent()
        if aval.dtype == dtypes.float0:
            return np.zeros(aval.shape, dtypes.float0)
        draw = rng.standard_normal(aval.shape)
        return np.asarray(
            draw + 1j * rng.standard_normal(aval.shape) if dtypes.is_complex(aval.dtype) else draw
        ).astype(aval.dtype)

    return tree.map(one, values)


def inner_product(a: Any, b: Any) -> float:
    """Return Re Σ aᵢ·bᵢ over all inexact leaves: the pairing of cotangents and tangents, without conjugation."""
    total = 0.0
    for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True):
        if _is_inexact(x):
            wide = np.complex128 if dtypes.is_complex(aval_of(x).dtype) else np.float64
            total += float(np.sum(np.asarray(x).astype(wide) * np.asarray(y).astype(wide)).real)
    return total


def numerical_jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], eps: float) -> Any:
    """Return the central difference (f(x + εv) − f(x − εv)) / 2ε as a tree of NumPy arrays."""

    def moved(step: float) -> Any:
        shifted = tree.map(
            lambda x, v: (x + step * v).astype(x.dtype) if _is_inexact(x) else x,
            _numpy(primals),
            _numpy(tangents),
        )
        return _numpy(f(*shifted))

    def difference(high: np.ndarray, low: np.ndarray) -> np.ndarray:
        if not _is_inexact(high):
            return np.zeros(high.shape, dtypes.float0)
        return ((high - low) / (2 * eps)).astype(high.dtype)

    return tree.map(difference, moved(eps), moved(-eps))


def _as_64_bit(values: Any) -> Any:
    """Convert float32 and complex64 leaves to float64 and complex128."""
    wide = {dtypes.float32: np.float64, dtypes.complex64: np.complex128}
    return tree.map(lambda x: x.astype(wide.get(x.dtype, x.dtype)), _numpy(values))


def _coarsest(values: Any) -> np.dtype:
    """The real dtype with the lowest precision among the inexact leaves; float64 if there are none."""
    real = [dtypes.real_dtype(aval_of(x).dtype) for x in tree.leaves(values) if _is_inexact(x)]
    return max(real, key=tolerance, default=dtypes.float64)


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    *,
    widen: bool = True,
) -> None:
    """Raise AssertionError unless the derivatives of `f` up to `order` agree with finite differences.

    Each order is checked along a random direction: forward mode against the central difference, and reverse mode by
    ⟨Jᵀu, v⟩ = ⟨u, Jv⟩ with the numerical Jv. Arguments in float32 are checked in float64, with 64-bit types enabled
    meanwhile, unless `widen` is false: a difference quotient in float32 has only two digits. `f` must be smooth around
    `args`.

    >>> check_grads(lambda x: x * x * x, (2.0,), order=2)
    """
    if set(modes) - {"fwd", "rev"}:
        raise ValueError(f"modes must be 'fwd' or 'rev', got {tuple(modes)}")
    with enable_x64() if widen else contextlib.nullcontext():
        args = _as_64_bit(tuple(args)) if widen else _numpy(tuple(args))
        _check_order(f, args, order, modes, (atol, rtol, eps), getattr(f, "__name__", "f"))


def _check_order(
    f: Callable[..., Any], args: Any, order: int, modes: Sequence[str], given: tuple[Any, Any, Any], name: str
) -> None:
    if "fwd" in modes:
        _check_forward(f, args, given, name)
        if order > 1:
            tangents = random_like(args, seed=order)

            def pushed(*primals: Any) -> Any:
                return jvp(f, primals, tangents)

            _check_order(pushed, args, order - 1, modes, given, f"jvp({name})")
    if "rev" in modes:
        _check_reverse(f, args, given, name)
        if order > 1:
            seed = random_like(f(*args), seed=order)

            def pulled(*primals: Any) -> Any:
                return [g for g in tree.leaves(vjp(f, *primals)[1](seed)) if _is_inexact(g)]

            _check_order(pulled, args, order - 1, modes, given, f"vjp({name})")


def _steps(args: Any, out: Any, given: tuple[Any, Any, Any]) -> tuple[float, float, float]:
    eps, tol = _STEP.get(_coarsest([args, out]), _STEP[dtypes.float32])
    atol, rtol, step = given
    return tol if atol is None else atol, tol if rtol is None else rtol, eps if step is None else step


def check_jvp(
    f: Callable[..., Any],
    f_jvp: Callable[..., Any],
    args: Sequence[Any],
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    err_msg: str = "",
) -> None:
    """Raise AssertionError unless `f_jvp`, (primals, tangents) → (output, tangent), agrees with finite differences.

    >>> from functools import partial
    >>> check_jvp(lambda x: x * x, partial(jvp, lambda x: x * x), (np.float32(2.0),))
    """
    _check_forward(f, _numpy(tuple(args)), (atol, rtol, eps), err_msg or getattr(f, "__name__", "f"), f_jvp)


def check_vjp(
    f: Callable[..., Any],
    f_vjp: Callable[..., Any],
    args: Sequence[Any],
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    err_msg: str = "",
) -> None:
    """Raise AssertionError unless `f_vjp`, primals → (output, pullback), agrees with finite differences.

    >>> from functools import partial
    >>> check_vjp(lambda x: x * x, partial(vjp, lambda x: x * x), (np.float32(2.0),))
    """
    _check_reverse(f, _numpy(tuple(args)), (atol, rtol, eps), err_msg or getattr(f, "__name__", "f"), f_vjp)


def _check_forward(
    f: Callable[..., Any],
    args: Any,
    given: tuple[Any, Any, Any],
    name: str,
    f_jvp: Callable[..., Any] | None = None,
) -> None:
    tangents = random_like(args)
    out, tangent_out = jvp(f, args, tangents) if f_jvp is None else f_jvp(args, tangents)
    atol, rtol, eps = _steps(args, out, given)
    assert_close(out, _numpy(f(*args)), what=f"check_grads: primal output of jvp({name})")
    expected = numerical_jvp(f, args, tangents, eps)
    assert_close(tangent_out, expected, atol=atol, rtol=rtol, what=f"check_grads: jvp({name}) and finite difference")


def _check_reverse(
    f: Callable[..., Any],
    args: Any,
    given: tuple[Any, Any, Any],
    name: str,
    f_vjp: Callable[..., Any] | None = None,
) -> None:
    tangents = random_like(args)
    out, pull = vjp(f, *args) if f_vjp is None else f_vjp(*args)
    atol, rtol, eps = _steps(args, out, given)
    assert_close(out, _numpy(f(*args)), what=f"check_grads: primal output of vjp({name})")
    seed = random_like(out, seed=1)
    back = pull(seed)
    expected = inner_product(seed, numerical_jvp(f, args, tangents, eps))
    actual = inner_product(back, tangents)
    scale = sum(abs(np.asarray(x)).sum() for x in tree.leaves([seed, back]) if _is_inexact(x))
    if not abs(actual - expected) <= atol * max(1.0, float(scale)) + rtol * abs(expected):
        raise AssertionError(
            f"check_grads: vjp({name}): ⟨Jᵀu, v⟩ = {actual}, finite differences give ⟨u, Jv⟩ = {expected}"
        )


def check_jvp_vjp(f: Callable[..., Any], args: Sequence[Any], rtol: float | None = None) -> None:
    """Raise AssertionError unless reverse mode is the adjoint of forward mode: ⟨Jᵀu, v⟩ = ⟨u, Jv⟩.

    Unlike `check_grads`, this compares two exact derivatives, so it holds up to roundoff, and at kinks too.
    """
    tangents = random_like(args)
    out, forward = jvp(f, tuple(args), tangents)
    seed = random_like(out, seed=1)
    back = vjp(f, *args)[1](seed)
    for x, g in zip(tree.leaves(tuple(args)), tree.leaves(back), strict=True):
        if aval_of(g).shape != aval_of(x).shape or aval_of(g).dtype != aval_of(x).tangent().dtype:
            raise AssertionError(f"vjp: an argument of type {aval_of(x)} got a cotangent of type {aval_of(g)}")
    actual, expected = inner_product(back, tangents), inner_product(seed, forward)
    scale = 1.0 + sum(
        float(np.abs(np.asarray(x, np.complex128)).sum()) for x in tree.leaves([forward, back]) if _is_inexact(x)
    )
    if rtol is None:
        dtype = _coarsest([args, out])
        rtol = _ADJOINT_ROUNDOFF.get(dtype, tolerance(dtype))
    if np.isfinite(scale) and not abs(actual - expected) <= rtol * scale:
        raise AssertionError(f"vjp is not the adjoint of jvp: ⟨Jᵀu, v⟩ = {actual}, ⟨u, Jv⟩ = {expected}")


def check_vmap(
    f: Callable[..., Any], args: Sequence[Any], in_axes: Any = 0, out_axes: Any = 0, rtol: float | None = None
) -> None:
    """Raise AssertionError unless vmap(f) equals the stacked results of a loop over the batch.

    >>> check_vmap(lambda x, y: x * y, (np.ones((3, 2)), 2.0), in_axes=(0, None))
    """
    args = tuple(args)
    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
    per_leaf = tree.flatten_axes("check_vmap in_axes", tree.structure(args), axes)
    leaves, treedef = tree.flatten(_numpy(args))
    size = next(x.shape[a] for x, a in zip(leaves, per_leaf, strict=True) if a is not None)

    def element(i: int) -> Any:
        taken = [x if a is None else np.take(x, i, a) for x, a in zip(leaves, per_leaf, strict=True)]
        return _numpy(f(*treedef.unflatten(taken)))

    mapped = vmap(f, in_axes, out_axes)(*args)
    rows = [element(i) for i in range(size)]
    if rows:
        out_leaf_axes = tree.flatten_axes("check_vmap out_axes", tree.structure(rows[0]), out_axes)
        columns = zip(*(tree.leaves(r) for r in rows), strict=True)
        stacked = [np.stack(c, a) for c, a in zip(columns, out_leaf_axes, strict=True)]
        expected = tree.unflatten(tree.structure(rows[0]), stacked)
        assert_close(mapped, expected, rtol=rtol, atol=rtol, what=f"vmap with in_axes={in_axes} and the loop")


def check_jit(f: Callable[..., Any], args: Sequence[Any], rtol: float | None = None) -> None:
    """Raise AssertionError unless jit(f) returns the same as f, including weak types.

    >>> check_jit(lambda x: x * 2 + 1, (3.0,))
    """
    expected, actual = f(*args), jit(functools.wraps(f)(lambda *xs: f(*xs)))(*args)
    assert_close(actual, _numpy(expected), rtol=rtol, atol=rtol, what="jit and eager")
    for a, b in zip(tree.leaves(actual), tree.leaves(expected), strict=True):
        if aval_of(a).weak_type != aval_of(b).weak_type:
            raise AssertionError(f"jit returns {aval_of(a)}, eager {aval_of(b)}")
