"""Initializers: functions (key, shape, dtype) → array, with the names and values of JAX.

Variance scaling samples from a distribution with mean 0 and variance scale / n, where n is the number of inputs of a
unit (fan-in), of its outputs (fan-out), or their mean. For a kernel of shape (*window, in, out), fan-in is in·|window|
and fan-out is out·|window|.

Sources: LeCun et al., "Efficient backprop", 1998; Glorot, Bengio, "Understanding the difficulty of training deep
feedforward neural networks", 2010; He et al., "Delving deep into rectifiers", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes, random
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names

Initializer = Callable[..., Any]
Axes = int | Sequence[int]

_TRUNCATED_STDDEV = 0.87962566103423978
"""Standard deviation of the standard normal distribution truncated to [−2, 2]."""


def _dtype(dtype: Any, name: str) -> Any:
    return dtypes.canonicalize(float) if dtype is None else dtypes.requested(dtype, name)


def zeros(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
    """All zeros; the key is not used."""
    return jnp.zeros(shape, _dtype(dtype, "zeros"))


def ones(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
    """All ones; the key is not used."""
    return jnp.ones(shape, _dtype(dtype, "ones"))


def constant(value: Any, dtype: Any = None) -> Initializer:
    """A constant, or an array that broadcasts to the shape; the key is not used."""

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        return jnp.full(shape, value, _dtype(dtype, "constant"))

    return init


def uniform(scale: float = 1e-2, dtype: Any = None) -> Initializer:
    """Uniform in [0, scale)."""

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        result_dtype = _dtype(dtype, "uniform")
        return random.uniform(key, shape, result_dtype) * jnp.array(scale, result_dtype)

    return init


def normal(stddev: float = 1e-2, dtype: Any = None) -> Initializer:
    """Normal with mean 0."""

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        result_dtype = _dtype(dtype, "normal")
        return random.normal(key, shape, result_dtype) * jnp.array(stddev, result_dtype)

    return init


def truncated_normal(stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0) -> Initializer:
    """stddev times a standard normal between lower and upper."""

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        result_dtype = _dtype(dtype, "truncated_normal")
        return random.truncated_normal(key, lower, upper, shape, result_dtype) * jnp.array(stddev, result_dtype)

    return init


def _fans(shape: Sequence[int], in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> tuple[float, float]:
    """Return (fan-in, fan-out)."""

    def size(axes: Axes) -> int:
        return math.prod(shape[i] for i in ((axes,) if isinstance(axes, int) else axes))

    if in_axis == -2 and len(shape) < 2:
        raise ShapeError(
            f"variance_scaling: shape {tuple(shape)} has no input and output axis",
            fix="use at least two dimensions, or pass in_axis and out_axis",
        )
    inputs, outputs = size(in_axis), size(out_axis)
    window = math.prod(shape) / (inputs * outputs * size(batch_axis)) if math.prod(shape) else 1
    return inputs * window, outputs * window


_MODES: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
_DISTRIBUTIONS = ("truncated_normal", "normal", "uniform")


def variance_scaling(
    scale: float,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """Mean 0 and variance scale / n, where `mode` defines n: "fan_in", "fan_out", "fan_avg" or "fan_geo_avg".

    The distribution is "truncated_normal" (at two standard deviations), "normal" or "uniform".

    >>> variance_scaling(1.0, "fan_in", "uniform")(random.key(0), (4, 2)).shape
    (4, 2)
    """
    for given, known in ((mode, tuple(_MODES)), (distribution, _DISTRIBUTIONS)):
        if given not in known:
            raise ArgumentError(f"variance_scaling: {given!r} is unknown", fix=f"choose one of {', '.join(known)}")

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        result_dtype = _dtype(dtype, "variance_scaling")
        if not dtypes.is_float(result_dtype):
            raise DTypeError(f"variance_scaling: dtype {result_dtype.name} is not a float", fix="use e.g. float32")
        fan = max(1.0, _MODES[mode](*_fans(shape, in_axis, out_axis, batch_axis)))
        variance = jnp.array(scale / fan, result_dtype)
        if distribution == "truncated_normal":
            stddev = jnp.sqrt(variance) / jnp.array(_TRUNCATED_STDDEV, result_dtype)
            return random.truncated_normal(key, -2, 2, shape, result_dtype) * stddev
        if distribution == "normal":
            return random.normal(key, shape, result_dtype) * jnp.sqrt(variance)
        return random.uniform(key, shape, result_dtype, -1) * jnp.sqrt(3 * variance)

    return init


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """A random orthogonal matrix times `scale`: of shape (size of the other axes, size of `column_axis`), reshaped.

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", 2014.

    >>> orthogonal()(random.key(0), (4, 2)).shape
    (4, 2)
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        result_dtype = _dtype(dtype, "orthogonal")
        if len(shape) < 2:
            raise ShapeError(f"orthogonal: shape {tuple(shape)} has less than two axes", fix="pass a shape of a matrix")
        if 0 in shape:
            return jnp.zeros(shape, result_dtype)
        columns, rest = shape[column_axis], list(shape)
        del rest[column_axis]
        q = random.orthogonal(key, math.prod(rest), (), result_dtype, columns)
        return jnp.array(scale, result_dtype) * jnp.moveaxis(jnp.reshape(q, (*rest, columns)), -1, column_axis)

    return init


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """A kernel of shape (*window, in, out) that is an orthogonal matrix at the center of the window, and 0 elsewhere.

    Source: Xiao et al., "Dynamical isometry and a mean field theory of CNNs", 2018.

    >>> delta_orthogonal()(random.key(0), (3, 3, 2, 4)).shape
    (3, 3, 2, 4)
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        result_dtype = _dtype(dtype, "delta_orthogonal")
        if not 3 <= len(shape) <= 5 or shape[-1] < shape[-2]:
            raise ShapeError(
                f"delta_orthogonal: shape {tuple(shape)} is not (*window, in, out) with in <= out",
                fix="use it for kernels of convolutions in one to three dimensions",
            )
        matrix = orthogonal(scale, column_axis, result_dtype)(key, tuple(shape[-2:]))
        center = tuple((size - 1) // 2 for size in shape[:-2])
        return jnp.zeros(shape, result_dtype).at[center].set(matrix)

    return init


def identity(scale: Any = 1.0, dtype: Any = None) -> Initializer:
    """A matrix of shape (in, out) that keeps its input times `scale`: `scale` on the diagonal; the key is not used.

    >>> identity()(None, (2, 3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        if len(shape) != 2:
            raise ShapeError(f"identity: shape {tuple(shape)} is not of a matrix", fix="use dirac for convolutions")
        return scale * jnp.eye(*shape, dtype=_dtype(dtype, "identity"))

    return init


def dirac(groups: int = 1, dtype: Any = None) -> Initializer:
    """A kernel of shape (*window, in, out) that keeps its input: the identity at the center of the window, 0 elsewhere.

    Each of `groups` groups of outputs has its own identity, as in PyTorch. The key is not used. Source: Zagoruyko,
    Komodakis, "DiracNets", 2017.

    >>> dirac()(None, (3, 1, 1))[:, 0, 0].tolist()
    [0.0, 1.0, 0.0]
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        if not 3 <= len(shape) <= 5 or shape[-1] % groups:
            raise ShapeError(
                f"dirac: shape {tuple(shape)} is not (*window, in, out) with out in {groups} groups",
                fix="use it for kernels of convolutions in one to three dimensions; groups must divide out",
            )
        matrix = jnp.tile(jnp.eye(shape[-2], shape[-1] // groups, dtype=_dtype(dtype, "dirac")), (1, groups))
        return jnp.zeros(shape, matrix.dtype).at[tuple(size // 2 for size in shape[:-2])].set(matrix)

    return init


def _scaled(name: str, scale: float, mode: str, distribution: str, doc: str) -> Callable[..., Initializer]:
    def initializer(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    initializer.__name__ = initializer.__qualname__ = name
    initializer.__doc__ = doc
    return initializer


lecun_normal = _scaled("lecun_normal", 1.0, "fan_in", "truncated_normal", "Truncated normal with variance 1 / fan-in.")
lecun_uniform = _scaled("lecun_uniform", 1.0, "fan_in", "uniform", "Uniform with variance 1 / fan-in.")
glorot_normal = _scaled(
    "glorot_normal", 1.0, "fan_avg", "truncated_normal", "Truncated normal with variance 2 / (fan-in + fan-out)."
)
glorot_uniform = _scaled("glorot_uniform", 1.0, "fan_avg", "uniform", "Uniform with variance 2 / (fan-in + fan-out).")
he_normal = _scaled("he_normal", 2.0, "fan_in", "truncated_normal", "Truncated normal with variance 2 / fan-in.")
he_uniform = _scaled("he_uniform", 2.0, "fan_in", "uniform", "Uniform with variance 2 / fan-in.")
xavier_normal, xavier_uniform = glorot_normal, glorot_uniform
kaiming_normal, kaiming_uniform = he_normal, he_uniform

_explain_missing_names(__name__)
