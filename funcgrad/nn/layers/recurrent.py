"""Recurrent layers: stacks of scans of sequences, in one direction or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax, random
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.labels import validity, widen
from funcgrad.nn.layer import FROM_INIT, Layer, Shape, as_size, constructor
from funcgrad.nn.layers.dropout import Dropout
from funcgrad.nn.layers.recurrent_cells import (
    Carry,
    Cell,
    Initializer,
    cell_tensors,
    checked,
    gru,
    init_cell,
    lstm,
    options_of,
    packed,
    project,
    rnn,
    unpacked,
)
from funcgrad.nn.torch import Tensor, torch_tensors


@constructor
def RNN(
    features: int,
    layers: int = 1,
    activation: Callable[[Any], Any] = jnp.tanh,
    *,
    bidirectional: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
    dtype: Any = None,
) -> Layer:
    """A stack of recurrent networks: (batch, time, in) → (batch, time, features). See `RNNCell` and `LSTM`."""
    cell = rnn("RNN", features, activation, options_of(bias, kernel_init, recurrent_init, dtype))
    return _sequence_layer(cell, layers, bidirectional, dropout)


@constructor
def LSTM(
    features: int,
    layers: int = 1,
    *,
    bidirectional: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
    dtype: Any = None,
) -> Layer:
    """A stack of LSTMs: (batch, time, in) → (batch, time, features), or 2·features if it is bidirectional.

    Params are a tuple of those of the cell, see `LSTMCell`, one per layer; with `bidirectional`, dicts of "forward" and
    "backward". `dropout` is the rate for outputs between layers, in training.

    `apply(params, x, lengths=None, carry=None, return_carry=False)`: `lengths`, integers of shape (batch,), say how
    many steps of each sequence are data. Further outputs are 0, and the backward direction starts at the last step of
    data. `carry` is the initial one, zeros by default: a tuple over layers of the cell's carry (or dicts as above).
    With `return_carry`, the result is (y, carry), where the carry is that after the last step of data.

    >>> layer = LSTM(3, layers=2, bidirectional=True)
    >>> out_shape, params = layer.init(random.key(0), (5, 4))
    >>> y, carry = layer.apply(params, jnp.ones((2, 5, 4)), lengths=jnp.array([5, 2]), return_carry=True)
    >>> y.shape, carry[1]["backward"][0].shape
    ((2, 5, 6), (2, 3))
    """
    return _sequence_layer(
        lstm("LSTM", features, options_of(bias, kernel_init, recurrent_init, dtype)), layers, bidirectional, dropout
    )


@constructor
def GRU(
    features: int,
    layers: int = 1,
    *,
    bidirectional: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
    dtype: Any = None,
) -> Layer:
    """A stack of gated recurrent units: (batch, time, in) → (batch, time, features). See `GRUCell` and `LSTM`."""
    return _sequence_layer(
        gru("GRU", features, options_of(bias, kernel_init, recurrent_init, dtype)), layers, bidirectional, dropout
    )


# ---------------------------------------------------------------- sequences


def _scan(cell: Cell, params: Any, x: Any, carry: Any, valid: Any, reverse: bool) -> tuple[Any, Any]:
    """Return the outputs (time, batch, features) for inputs (time, batch, in), and the final carry.

    The product with the kernel is one for all times. Where `valid`, of shape (time, batch, 1), is False, the carry does
    not change and the output is 0.
    """
    own = checked(cell, params, x)
    projected = project(own, x)
    start = unpacked(cell, carry, x.shape[1], projected.dtype)

    def step(carry: Carry, at: Any) -> tuple[Carry, Any]:
        if valid is None:
            after = cell.step(own, at, carry)
            return after, after[0]
        at, known = at
        after = tuple(jnp.where(known, new, old) for new, old in zip(cell.step(own, at, carry), carry, strict=True))
        return after, jnp.where(known, after[0], 0)

    final, y = lax.scan(step, start, projected if valid is None else (projected, valid), reverse=reverse)
    return y, packed(final)


def _sequence_layer(cell: Cell, depth: int, bidirectional: bool, dropout: float) -> Layer:
    """A stack of scans with cells of one kind."""
    name = cell.name
    depth = as_size(depth, "layers", name)
    drop = Dropout(dropout)
    sides = {"forward": False, "backward": True} if bidirectional else {}

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        if len(in_shape) != 2:
            raise ShapeError(f"{name}: the shape of an example is {in_shape}", fix="pass (time, features) to init")
        time, size = in_shape
        params = []
        for own_key in random.split(key, depth):
            if sides:
                keys = random.split(own_key)
                params.append({side: init_cell(cell, k, size) for side, k in zip(sides, keys, strict=True)})
            else:
                params.append(init_cell(cell, own_key, size))
            size = cell.features * max(1, len(sides))
        return (time, size), tuple(params)

    def one(params: Any, x: Any, carry: Any, valid: Any) -> tuple[Any, Any]:
        if not sides:
            return _scan(cell, params, x, carry, valid, False)
        params, carry = (_by_side(name, what, given) for what, given in (("params", params), ("carry", carry)))
        found = {side: _scan(cell, params[side], x, carry[side], valid, back) for side, back in sides.items()}
        return jnp.concatenate([y for y, _ in found.values()], -1), {side: final for side, (_, final) in found.items()}

    def apply(
        params: Any,
        x: Any,
        *,
        lengths: Any = None,
        carry: Any = None,
        return_carry: bool = False,
        key: Any = None,
        train: bool = False,
    ) -> Any:
        x = as_operand(x, name)
        if x.ndim != 3:
            raise ShapeError(f"{name}: the input is {x.aval}", fix="pass x of shape (batch, time, features)")
        params, carries = (
            _by_layer(name, what, given, depth) for what, given in (("params", params), ("carry", carry))
        )
        valid, factor = _valid(name, x, lengths)
        keys = [None] * depth if key is None else random.split(key, depth)
        y, finals = jnp.swapaxes(x, 0, 1), []
        for i, (own, start) in enumerate(zip(params, carries, strict=True)):
            y = drop.apply((), y, key=keys[i], train=train) if i and train else y
            y, final = one(own, y, start, valid)
            finals.append(final)
        y = jnp.swapaxes(y, 0, 1) * factor
        return (y, tuple(finals)) if return_carry else y

    return Layer(init, apply, keywords=("lengths", "carry", "return_carry"))


def _by_layer(name: str, what: str, given: Any, depth: int) -> Any:
    """Return one entry per layer of a stack; a missing carry is one of Nones."""
    if what == "carry" and given is None:
        return (None,) * depth
    if not isinstance(given, tuple | list) or len(given) != depth:
        size = f"of {len(given)} layers" if isinstance(given, tuple | list) else f"of type {type(given).__name__}"
        fix = (
            FROM_INIT if what == "params" else "pass a tuple with one carry per layer, as return_carry=True returns it"
        )
        raise ArgumentError(f"{name}: {what} {size} for {depth} layers", fix=fix)
    return given


def _by_side(name: str, what: str, given: Any) -> Any:
    """Return the entries of both directions; a missing carry is one of Nones."""
    if what == "carry" and given is None:
        return {"forward": None, "backward": None}
    if not isinstance(given, dict) or given.keys() != {"forward", "backward"}:
        has = f"keys {list(given)}" if isinstance(given, dict) else f"type {type(given).__name__}"
        raise ArgumentError(f"{name}: {what} of {has} for two directions", fix="give a dict of forward and backward")
    return given


def _valid(name: str, x: Any, lengths: Any) -> tuple[Any, Any]:
    """Return which steps are within lengths, of shape (time, batch, 1), and the validity of the lengths."""
    if lengths is None:
        return None, 1
    batch, time, _ = x.shape
    lengths = as_operand(lengths, f"{name}: lengths")
    if lengths.shape != (batch,) or not dtypes.is_integer(lengths.dtype):
        raise ShapeError(f"{name}: lengths are {lengths.aval} for the input {x.aval}", fix=f"give {batch} integers")
    lengths = widen(lengths, time)
    problem, fix = f"{name}: lengths has {{}}, but the input {x.aval} has {time} steps", "lengths are from 0 to that"
    factor = validity(lengths, lambda n: (n >= 0) & (n <= time), dtypes.canonicalize(float), problem, fix)
    factor = factor if isinstance(factor, int) else factor[:, None, None].astype(x.dtype)
    return (jnp.arange(time)[:, None] < lengths)[..., None], factor


@torch_tensors("RNN", "LSTM", "GRU")
def _tensors(layer: Layer) -> list[Tensor]:
    found = []
    sides = {"forward/": "", "backward/": "_reverse"} if layer.options["bidirectional"] else {"": ""}
    for i in range(layer.options["layers"]):
        for side, suffix in sides.items():
            for t in cell_tensors(layer):
                paths = tuple(f"{i}/{side}{path}" for path in t.ours)
                found.append(t._replace(name=f"{t.name}_l{i}{suffix}", ours=paths))
    return found
