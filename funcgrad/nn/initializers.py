"""Initial parameters: functions (key, shape, dtype) → array, with JAX's names and values.

Variance scaling draws from a distribution of mean 0 and variance scale / n, n the number of inputs of a unit (fan-in),
of its outputs (fan-out), or their mean. For a kernel of shape (*window, in, out) these are in·|window| and
out·|window|.

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
"""Standard deviation of a standard normal that is truncated to [−2, 2]."""


def _dtype(dtype: Any, name: str) -> Any:
    return dtypes.canonicalize(float) if dtype is None else dtypes.requested(dtype, name)


def zeros(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
    """All 0; the key is not used."""
    return jnp.zeros(shape, _dtype(dtype, "zeros"))


def ones(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
    """All 1; the key is not used."""
    return jnp.ones(shape, _dtype(dtype, "ones"))


def constant(value: Any, dtype: Any = None) -> Initializer:
    """One value, or an array that broadcasts to the shape; the key is not used."""

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        return jnp.full(shape, value, _dtype(dtype, "constant"))

    return init


def uniform(scale: float = 1e-2, dtype: Any = None) -> Initializer:
    """Uniform in [0, scale)."""

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        wanted = _dtype(dtype, "uniform")
        return random.uniform(key, shape, wanted) * jnp.array(scale, wanted)

    return init


def normal(stddev: float = 1e-2, dtype: Any = None) -> Initializer:
    """Normal of mean 0."""

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        wanted = _dtype(dtype, "normal")
        return random.normal(key, shape, wanted) * jnp.array(stddev, wanted)

    return init


def truncated_normal(stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0) -> Initializer:
    """stddev times a standard normal between lower and upper."""

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        wanted = _dtype(dtype, "truncated_normal")
        return random.truncated_normal(key, lower, upper, shape, wanted) * jnp.array(stddev, wanted)

    return init


def _fans(shape: Sequence[int], in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> tuple[float, float]:
    """Return (fan-in, fan-out)."""

    def size(axes: Axes) -> int:
        return math.prod(shape[i] for i in ((axes,) if isinstance(axes, int) else axes))

    if in_axis == -2 and len(shape) < 2:
        raise ShapeError(
            f"variance_scaling: shape {tuple(shape)} has no input and output axis",
            fix="give at least two dimensions, or say which axis is which with in_axis and out_axis",
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
    """Mean 0, variance scale / fan; mode "fan_in", "fan_out", "fan_avg" or "fan_geo_avg".

    The distribution is "truncated_normal" (to two standard deviations), "normal" or "uniform".

    >>> variance_scaling(1.0, "fan_in", "uniform")(random.key(0), (4, 2)).shape
    (4, 2)
    """
    for given, known in ((mode, tuple(_MODES)), (distribution, _DISTRIBUTIONS)):
        if given not in known:
            raise ArgumentError(f"variance_scaling: {given!r} is unknown", fix=f"choose one of {', '.join(known)}")

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype) -> Any:
        wanted = _dtype(dtype, "variance_scaling")
        if not dtypes.is_float(wanted):
            raise DTypeError(f"variance_scaling: dtype {wanted.name} is not a float", fix="use e.g. float32")
        fan = max(1.0, _MODES[mode](*_fans(shape, in_axis, out_axis, batch_axis)))
        variance = jnp.array(scale / fan, wanted)
        if distribution == "truncated_normal":
            stddev = jnp.sqrt(variance) / jnp.array(_TRUNCATED_STDDEV, wanted)
            return random.truncated_normal(key, -2, 2, shape, wanted) * stddev
        if distribution == "normal":
            return random.normal(key, shape, wanted) * jnp.sqrt(variance)
        return random.uniform(key, shape, wanted, -1) * jnp.sqrt(3 * variance)

    return init


def _scaled(name: str, scale: float, mode: str, distribution: str, doc: str) -> Callable[..., Initializer]:
    def initializer(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    initializer.__name__ = initializer.__qualname__ = name
    initializer.__doc__ = doc
    return initializer


lecun_normal = _scaled("lecun_normal", 1.0, "fan_in", "truncated_normal", "Truncated normal of variance 1 / fan-in.")
lecun_uniform = _scaled("lecun_uniform", 1.0, "fan_in", "uniform", "Uniform of variance 1 / fan-in.")
glorot_normal = _scaled(
    "glorot_normal", 1.0, "fan_avg", "truncated_normal", "Truncated normal of variance 2 / (fan-in + fan-out)."
)
glorot_uniform = _scaled("glorot_uniform", 1.0, "fan_avg", "uniform", "Uniform of variance 2 / (fan-in + fan-out).")
he_normal = _scaled("he_normal", 2.0, "fan_in", "truncated_normal", "Truncated normal of variance 2 / fan-in.")
he_uniform = _scaled("he_uniform", 2.0, "fan_in", "uniform", "Uniform of variance 2 / fan-in.")
xavier_normal, xavier_uniform = glorot_normal, glorot_uniform
kaiming_normal, kaiming_uniform = he_normal, he_uniform

_explain_missing_names(__name__)
