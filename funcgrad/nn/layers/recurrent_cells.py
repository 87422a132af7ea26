"""Recurrent layers: cells, which compute one step, and layers, which scan sequences with them.

The gates and equations are those of PyTorch, whose two biases are added into one where their sum is all that counts.
`x` is the input of a step, h the hidden state, c the cell state of an LSTM, W the `kernel`, R the `recurrent_kernel`,
and the gates are in the last axis of W and R, in the order given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import random
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ShapeError
from funcgrad.nn import activations, initializers
from funcgrad.nn.layer import Layer, Shape, as_size, check_features, constructor, initial, parameters
from funcgrad.nn.torch import Tensor, permuted, torch_tensors

Initializer = initializers.Initializer
Carry = tuple[Any, ...]


class Cell(NamedTuple):
    """A kind of cell. `step(params, projected, carry)` returns the next carry, where projected = x·W + b."""

    name: str
    features: int
    gates: int
    carried: int
    step: Callable[[Any, Any, Carry], Carry]
    options: dict[str, Any]


def rnn(name: str, features: int, activation: Callable[[Any], Any], options: dict[str, Any]) -> Cell:
    def step(params: Any, projected: Any, carry: Carry) -> Carry:
        return (activation(projected + carry[0] @ params["recurrent_kernel"]),)

    return Cell(name, as_size(features, "features", name), 1, 1, step, options)


def lstm(name: str, features: int, options: dict[str, Any]) -> Cell:
    def step(params: Any, projected: Any, carry: Carry) -> Carry:
        h, c = carry
        i, f, g, o = jnp.split(projected + h @ params["recurrent_kernel"], 4, -1)
        c = activations.sigmoid(f) * c + activations.sigmoid(i) * jnp.tanh(g)
        return activations.sigmoid(o) * jnp.tanh(c), c

    return Cell(name, as_size(features, "features", name), 4, 2, step, options)


def gru(name: str, features: int, options: dict[str, Any]) -> Cell:
    def step(params: Any, projected: Any, carry: Carry) -> Carry:
        (h,) = carry
        (xr, xz, xn), (hr, hz, hn) = (jnp.split(a, 3, -1) for a in (projected, h @ params["recurrent_kernel"]))
        r, z = activations.sigmoid(xr + hr), activations.sigmoid(xz + hz)
        n = jnp.tanh(xn + r * (hn + params["recurrent_bias"] if "recurrent_bias" in params else hn))
        return (n + z * (h - n),)

    return Cell(name, as_size(features, "features", name), 3, 1, step, options)


# ---------------------------------------------------------------- parameters and carries of one cell


def init_cell(cell: Cell, key: Any, size: int) -> dict[str, Any]:
    """Params of a cell with inputs of the given size."""
    name, features, options = cell.name, cell.features, cell.options
    dtype = options["dtype"]
    kernel_init = options["kernel_init"] or initializers.lecun_normal()
    recurrent_init = options["recurrent_init"] or initializers.orthogonal()
    kernel_key, *keys = random.split(key, 1 + cell.gates)
    shape = (features, features)
    blocks = [initial(recurrent_init, "recurrent_init", name, k, shape, dtype) for k in keys]
    kernel = initial(kernel_init, "kernel_init", name, kernel_key, (size, cell.gates * features), dtype)
    params = {"kernel": kernel, "recurrent_kernel": jnp.concatenate(blocks, -1)}
    if options["bias"]:
        params["bias"] = initializers.zeros(key, (cell.gates * features,), dtype)
        if cell.gates == 3:
            params["recurrent_bias"] = initializers.zeros(key, (features,), dtype)
    return params


def checked(cell: Cell, params: Any, x: Any) -> dict[str, Any]:
    """Return the params of a cell; raise unless they fit the cell and the input."""
    width = cell.gates * cell.features
    shapes: dict[str, tuple[int | None, ...]] = {"kernel": (None, width), "recurrent_kernel": (cell.features, width)}
    if cell.options["bias"]:
        shapes |= {"bias": (width,)} | ({"recurrent_bias": (cell.features,)} if cell.gates == 3 else {})
    own = dict(zip(shapes, parameters(params, cell.name, shapes), strict=True))
    check_features(x, own["kernel"].shape[0], cell.name, f"the kernel {own['kernel'].aval}")
    return own


def project(params: dict[str, Any], x: Any) -> Any:
    y = jnp.matmul(x, params["kernel"])
    return y + params["bias"] if "bias" in params else y


def unpacked(cell: Cell, carry: Any, batch: int, dtype: Any) -> Carry:
    """Return a carry as a tuple; zeros in place of None."""
    shape = (batch, cell.features)
    if carry is None:
        return (jnp.zeros(shape, dtype),) * cell.carried
    parts = tuple(carry) if isinstance(carry, tuple | list) else (carry,)
    arrays = tuple(as_operand(part, f"{cell.name}: carry") for part in parts)
    if [a.shape for a in arrays] != [shape] * cell.carried:
        wanted = "(h, c), both" if cell.carried == 2 else "h"
        raise ShapeError(
            f"{cell.name}: the carry is {', '.join(str(a.aval) for a in arrays)}",
            fix=f"pass {wanted} of shape {shape}, or None for zeros",
        )
    return tuple(a.astype(dtype) for a in arrays)


def packed(carry: Carry) -> Any:
    return carry if len(carry) > 1 else carry[0]


def _cell_layer(cell: Cell) -> Layer:
    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        if len(in_shape) != 1:
            raise ShapeError(f"{cell.name}: the input of a step has shape {in_shape}", fix="pass (features,) to init")
        return (cell.features,), init_cell(cell, key, in_shape[0])

    def apply(params: Any, x: Any, *, carry: Any = None, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, cell.name)
        if x.ndim != 2:
            raise ShapeError(f"{cell.name}: the input of a step is {x.aval}", fix="pass x of shape (batch, features)")
        own = checked(cell, params, x)
        projected = project(own, x)
        carry = cell.step(own, projected, unpacked(cell, carry, x.shape[0], projected.dtype))
        return carry[0], packed(carry)

    return Layer(init, apply, keywords=("carry",))


# ---------------------------------------------------------------- the layers


@constructor
def RNNCell(
    features: int,
    activation: Callable[[Any], Any] = jnp.tanh,
    *,
    bias: bool = True,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
    dtype: Any = None,
) -> Layer:
    """One step of a recurrent network: h' = tanh(x·W + h·R + b), or another activation.

    `apply(params, x, carry=h)` maps x of shape (batch, in) and h of shape (batch, features), or None for zeros, to
    (output, carry), both h'. Params: {"kernel": (in, features), "recurrent_kernel": (features, features), "bias":
    (features,)}.
    """
    return _cell_layer(rnn("RNNCell", features, activation, options_of(bias, kernel_init, recurrent_init, dtype)))


@constructor
def LSTMCell(
    features: int,
    *,
    bias: bool = True,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
    dtype: Any = None,
) -> Layer:
    """One step of a long short-term memory: (i, f, g, o) = x·W + h·R + b.

    c' = σ(f)·c + σ(i)·tanh(g) and h' = σ(o)·tanh(c'). `apply(params, x, carry=(h, c))` returns (h', (h', c')); shapes
    are (batch, in) for x and (batch, features) for h and c. Params: {"kernel": (in, 4·features), "recurrent_kernel":
    (features, 4·features), "bias": (4·features,)}.

    >>> cell = LSTMCell(3)
    >>> _, params = cell.init(random.key(0), (4,))
    >>> y, carry = cell.apply(params, jnp.ones((2, 4)))
    >>> y.shape, [part.shape for part in carry]
    ((2, 3), [(2, 3), (2, 3)])

    Source: Hochreiter, Schmidhuber, "Long short-term memory", 1997; Gers et al., "Learning to forget", 2000.
    """
    return _cell_layer(lstm("LSTMCell", features, options_of(bias, kernel_init, recurrent_init, dtype)))


@constructor
def GRUCell(
    features: int,
    *,
    bias: bool = True,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
    dtype: Any = None,
) -> Layer:
    """One step of a gated recurrent unit: r and z are σ of their parts of x·W + h·R + b, in the order r, z, n.

    n = tanh(x·Wₙ + bₙ + r·(h·Rₙ + d)) and h' = (1 − z)·n + z·h. `apply(params, x, carry=h)` returns (h', h'). Params:
    {"kernel": (in, 3·features), "recurrent_kernel": (features, 3·features), "bias": (3·features,), "recurrent_bias":
    (features,)}, the last one d.

    Source: Cho et al., "Learning phrase representations using RNN encoder–decoder", 2014.
    """
    return _cell_layer(gru("GRUCell", features, options_of(bias, kernel_init, recurrent_init, dtype)))


@torch_tensors("RNNCell", "LSTMCell", "GRUCell")
def cell_tensors(layer: Layer) -> list[Tensor]:
    """PyTorch has two biases, which are added in all gates but the last one of a GRU."""
    tensors = [permuted("weight_ih", "kernel", 1, 0), permuted("weight_hh", "recurrent_kernel", 1, 0)]
    if not layer.options["bias"]:
        return tensors
    if not layer.kind.startswith("GRU"):
        return [*tensors, Tensor("bias_ih", ("bias",)), Tensor("bias_hh", ("bias",), save=np.zeros_like)]

    def load(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = x.size // 3
        return np.concatenate([x[: 2 * size], np.zeros(size, x.dtype)]), x[2 * size :]

    def save(bias: np.ndarray, recurrent_bias: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros_like(bias[recurrent_bias.size :]), recurrent_bias])

    return [*tensors, Tensor("bias_ih", ("bias",)), Tensor("bias_hh", ("bias", "recurrent_bias"), load, save)]


def options_of(bias: bool, kernel_init: Any, recurrent_init: Any, dtype: Any) -> dict[str, Any]:
    return {"bias": bias, "kernel_init": kernel_init, "recurrent_init": recurrent_init, "dtype": dtype}
