"""Batch normalization, with running statistics as explicit state.

>>> from funcgrad import nn, random
>>> import numpy as np

import funcgrad.numpy as jnp
>>> model = nn.Sequential(nn.Linear(3), nn.BatchNorm1d())
>>> shape, params, state = model.init(random.key(0), (4,))
>>> y, state = model.apply(params, jnp.ones((8, 4)), state=state, train=True)
>>> sorted(state[1])
['mean', 'variance']
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ShapeError
from funcgrad.nn import initializers
from funcgrad.nn.layer import Layer, Shape, check_features, parameters
from funcgrad.nn.layers.normalization import affine_init, affine_shapes, affine_tensors, as_float, widened
from funcgrad.nn.layers.spatial import as_channels, channel_axis, check_example, check_rank, per_channel, ranked
from funcgrad.nn.torch import Tensor, torch_tensors


def _batch_norm(
    rank: int,
    *,
    momentum: float | None = 0.1,
    epsilon: float = 1e-5,
    scale: bool = True,
    bias: bool = True,
    channels: str = "last",
    dtype: Any = None,
) -> Layer:
    """Standardize each channel over batch and space, then scale and shift it: (batch, SPACE, channels).

    In training, with the mean and the (biased) variance of the batch. Otherwise with the running ones of the state,
    which training updates: (1 − momentum)·running + momentum·batch, where the variance of the batch is unbiased, as in
    PyTorch. With momentum None, they are the means over all batches. `BatchNorm1d` takes (batch, channels) too.

    Params: {"scale": (channels,), "bias": (channels,)}. State: {"mean": (channels,), "variance": (channels,)}, and
    {"count": ()} with momentum None.

    Source: Ioffe, Szegedy, "Batch normalization", 2015.
    """
    name = f"BatchNorm{rank}d"
    as_number(epsilon, "epsilon", name, "[0, inf)")
    as_channels(channels, name)
    if momentum is not None:
        as_number(momentum, "momentum", name, "[0, 1]")
    shapes = affine_shapes(None, scale, bias)

    def init(key: Any, in_shape: Shape) -> tuple[Any, ...]:
        if rank > 1 or len(in_shape) != 1:
            check_example(in_shape, rank, name, channels)
        params = affine_init(name, in_shape, scale, bias, channels, dtype)
        return in_shape, params, _initial_state(in_shape[0 if channels == "first" else -1], momentum)

    def apply(params: Any, x: Any, *, state: Any, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        x, axis = as_operand(x, name), channel_axis(jnp.ndim(x), channels)
        if rank > 1 or x.ndim != 2:
            check_rank(x, rank, name, channels)
        parts = dict(zip(shapes, parameters(params, name, shapes), strict=True))
        running = _running(state, name, momentum)
        for part, value in {**parts, "running mean": running["mean"]}.items():
            check_features(x, value.shape[0], name, f"the {part} {value.aval}", axis)
        axes = tuple(d for d in range(x.ndim) if d != axis)
        wide = widened(x)
        mean = jnp.mean(wide, axes) if train else running["mean"]
        centered = wide - per_channel(mean, x.ndim, channels)
        variance = jnp.mean(jnp.square(centered), axes) if train else running["variance"]
        factor = lax.rsqrt(variance + epsilon)
        y = centered * per_channel(factor * parts["scale"] if scale else factor, x.ndim, channels)
        y = y + per_channel(parts["bias"], x.ndim, channels) if bias else y
        return y.astype(as_float(x)), _updated(x, axes, running, mean, variance, momentum, name) if train else state

    return Layer(init, apply, stateful=True)


def _initial_state(size: int, momentum: float | None) -> dict[str, Any]:
    state = {"mean": initializers.zeros(None, (size,)), "variance": initializers.ones(None, (size,))}
    return state if momentum is not None else {**state, "count": jnp.zeros(())}


def _running(state: Any, name: str, momentum: float | None) -> dict[str, Any]:
    shapes: dict[str, Any] = {"mean": (None,), "variance": (None,)} | ({} if momentum is not None else {"count": ()})
    return dict(zip(shapes, parameters(state, name, shapes, "state"), strict=True))


def _updated(
    x: Any, axes: Shape, running: dict[str, Any], mean: Any, variance: Any, momentum: float | None, name: str
) -> dict[str, Any]:
    """Return the running statistics after a batch."""
    n = math.prod(x.shape[d] for d in axes)
    if n < 2:
        raise ShapeError(
            f"{name}: the input {x.aval} has {n} elements for each channel, and training needs more than one",
            fix="use larger batches, or train=False",
        )
    after = {}
    if momentum is None:
        after["count"] = running["count"] + 1
        momentum = 1 / after["count"]
    new = {"mean": (mean, momentum), "variance": (variance, momentum * (n / (n - 1)))}
    for part, (value, weight) in new.items():
        after[part] = ((1 - momentum) * running[part] + weight * value).astype(running[part].dtype)
    return after


BatchNorm1d, BatchNorm2d, BatchNorm3d = ranked("BatchNorm", _batch_norm)


@torch_tensors(*(f"BatchNorm{rank}d" for rank in (1, 2, 3)))
def _tensors(layer: Layer) -> list[Tensor]:
    """PyTorch counts batches always; the count matters for means over all batches."""
    counted = layer.options["momentum"] is None
    count = Tensor("num_batches_tracked", ("count",), np.float32, np.int64, in_state=True)
    return [
        *affine_tensors(layer),
        Tensor("running_mean", ("mean",), in_state=True),
        Tensor("running_var", ("variance",), in_state=True),
        count if counted else count._replace(ours=(), save=lambda: np.int64(0)),
    ]
