"""TrainState, and training steps made of a model, an optimizer and a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax, optim, random, tree
from funcgrad.arguments.axes import as_int, as_number
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.transforms.grad import value_and_grad
from funcgrad.transforms.jit import jit

PRECISIONS = (None, "bfloat16", "float16")
_GROW_AFTER = 2000


class LossScale(NamedTuple):
    """The factor of the loss in float16, and the number of steps since it changed."""

    factor: Any
    good: Any


class TrainState(NamedTuple):
    """Everything that a training step changes; a pytree.

    `key` never changes: step t uses `random.fold_in(key, step)`. `rate` multiplies the updates, and so the learning
    rate. `ema` is the moving average of the parameters, or None. `scale` is a `LossScale`, or None.
    """

    params: Any
    layer_state: Any
    opt_state: Any
    step: Any
    key: Any
    rate: Any
    ema: Any
    scale: Any


def init(
    model: Any, optimizer: Any, key: Any, in_shape: Any, *, ema: bool = False, precision: str | None = None
) -> TrainState:
    """Return the first state of training: initialized parameters, layer state and optimizer state.

    `in_shape` is the shape of one example. Pass the `ema` and `precision` of the step.

    >>> from funcgrad import nn
    >>> state = init(nn.Linear(2), optim.sgd(0.1), random.key(0), (3,))
    >>> tree.map(jnp.shape, state.params)
    {'kernel': (3, 2), 'bias': (2,)}
    """
    _check_precision(precision, "init")
    init_key, key = random.split(key)
    _, params, *layer_state = model.init(init_key, in_shape)
    scale = LossScale(jnp.float32(2.0**15), jnp.int32(0)) if precision == "float16" else None
    return TrainState(
        params=params,
        layer_state=layer_state[0] if layer_state else (),
        opt_state=optimizer.init(params),
        step=jnp.int32(0),
        key=key,
        rate=jnp.float32(1.0),
        ema=params if ema else None,
        scale=scale,
    )


def apply(model: Any, params: Any, layer_state: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
    """Return (outputs, layer state) of a model with or without state."""
    if getattr(model, "stateful", False):
        return model.apply(params, x, state=layer_state, key=key, train=train)
    return model.apply(params, x, key=key, train=train), layer_state


def inputs_of(batch: Any) -> Any:
    """Return the inputs of a minibatch: entry "x" of a dict, or the first of a tuple."""
    return _entry(batch, "x", 0)


def targets_of(batch: Any) -> Any:
    """Return the targets of a minibatch: entry "y" of a dict, or the second of a tuple."""
    return _entry(batch, "y", 1)


def _entry(batch: Any, name: str, index: int) -> Any:
    try:
        return batch[name] if isinstance(batch, dict) else getattr(batch, name, batch[index])
    except (KeyError, IndexError, TypeError):
        found = f"a dict of keys {list(batch)}" if isinstance(batch, dict) else f"of type {type(batch).__name__}"
        raise ArgumentError(
            f"a minibatch is {found}, without {name!r}",
            fix='make minibatches {"x": inputs, "y": targets} or (inputs, targets), or pass functions of the batch',
        ) from None


def make_step(
    model: Any,
    optimizer: Any,
    loss: Callable[[Any, Any], Any],
    *,
    inputs: Callable[[Any], Any] = inputs_of,
    accumulate: int = 1,
    precision: str | None = None,
    ema: float | None = None,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]]:
    """Return a compiled training step: (state, batch) → (state, {"loss": …, "grad_norm": …}).

    Args:
      model: a layer; it is applied with `train=True` and a new key per step.
      optimizer: a pair of functions (init, update).
      loss: a function (outputs, batch) → the mean loss of the minibatch.
      inputs: a function from a minibatch to the inputs of the model; by default `batch["x"]` or `batch[0]`.
      accumulate: the number of equal parts of a minibatch that are computed one after the other, in less memory; the
        gradient is the mean over the parts.
      precision: "bfloat16" or "float16" to apply the model in; parameters, gradients and losses stay as they are. In
        float16, the loss is multiplied by a factor that keeps gradients from underflow: it is halved when they
        overflow, in which case the step changes nothing else, and doubled after 2000 steps without overflow.
      ema: the decay d of the moving average of the parameters, ema ← d·ema + (1 − d)·params.

    >>> from funcgrad import nn
    >>> model, optimizer = nn.Linear(1), optim.sgd(0.1)
    >>> step = make_step(model, optimizer, lambda y, batch: jnp.mean((y - batch["y"]) ** 2))
    >>> state, measured = step(init(model, optimizer, random.key(0), 2), {"x": jnp.ones((4, 2)), "y": jnp.ones((4, 1))})
    >>> int(state.step), sorted(measured)
    (1, ['grad_norm', 'loss'])
    """
    _check_precision(precision, "make_step")
    if as_int(accumulate, "accumulate", "make_step") < 1:
        raise ArgumentError(f"make_step: accumulate is {accumulate}", fix="divide minibatches into at least one part")
    if ema is not None:
        as_number(ema, "ema", "make_step", "[0, 1]")

    def part(params: Any, layer_state: Any, batch: Any, key: Any, factor: Any) -> tuple[Any, Any]:
        """Return factor·loss, and (layer state, loss), of a part of a minibatch."""
        low = _cast(params, precision), _cast(inputs(batch), precision)
        outputs, changed = apply(model, low[0], layer_state, low[1], key=key, train=True)
        value = loss(_cast(outputs, precision and "float32"), batch)
        _check_loss(value)
        changed = tree.map(lambda new, old: new.astype(jnp.result_type(old)), changed, layer_state)
        return value * factor, (changed, value)

    gradient = value_and_grad(part, has_aux=True)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        _check_state(state, ema, precision)
        factor = 1.0 if state.scale is None else state.scale.factor
        grads, layer_state, value = _accumulated(gradient, state, batch, factor, accumulate)
        if state.scale is not None:
            grads = tree.map(lambda g: g / factor, grads)
        norm = optim.global_norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        updates = tree.map(lambda u: u * state.rate.astype(jnp.result_type(u)), updates)
        params = optim.apply_updates(state.params, updates)
        average = None if ema is None else tree.map(lambda a, p: ema * a + (1 - ema) * p, state.ema, params)
        moved = state._replace(
            params=params, layer_state=layer_state, opt_state=opt_state, step=state.step + 1, ema=average
        )
        if state.scale is None:
            return moved, {"loss": value, "grad_norm": norm}
        finite = jnp.isfinite(norm)
        kept = tree.map(lambda new, old: jnp.where(finite, new, old), moved, state._replace(step=state.step + 1))
        kept = kept._replace(scale=_next_scale(state.scale, finite))
        return kept, {"loss": value, "grad_norm": jnp.where(finite, norm, 0.0), "overflow": 1.0 - finite}

    return jit(step)


def _accumulated(gradient: Any, state: TrainState, batch: Any, factor: Any, count: int) -> tuple[Any, Any, Any]:
    """Return gradients, layer state and loss, as means over `count` parts of the minibatch."""
    key = random.fold_in(state.key, state.step)
    if count == 1:
        (_, (layer_state, value)), grads = gradient(state.params, state.layer_state, batch, key, factor)
        return grads, layer_state, value
    parts = tree.map_with_path(lambda path, x: _split(path, x, count), batch)

    def body(carry: Any, part: Any) -> tuple[Any, Any]:
        grads, layer_state = carry
        examples, number = part
        (_, (layer_state, value)), new = gradient(
            state.params, layer_state, examples, random.fold_in(key, number), factor
        )
        return (tree.map(jnp.add, grads, new), layer_state), value

    start = tree.map(jnp.zeros_like, state.params), state.layer_state
    (grads, layer_state), values = lax.scan(body, start, (parts, jnp.arange(count)))
    return tree.map(lambda g: g / count, grads), layer_state, jnp.mean(values)


def _split(path: Any, x: Any, count: int) -> Any:
    x = jnp.asarray(x)
    if not x.ndim or x.shape[0] % count:
        raise ShapeError(
            f"make_step: {tree.keystr(path) or 'the minibatch'} is {aval_of(x)}, which does not divide into "
            f"{count} equal parts",
            fix="use a batch size that `accumulate` divides, and drop_last=True in the loader",
        )
    return x.reshape(count, x.shape[0] // count, *x.shape[1:])


def _next_scale(scale: LossScale, finite: Any) -> LossScale:
    grow = finite & (scale.good + 1 >= _GROW_AFTER)
    factor = jnp.where(finite, jnp.where(grow, scale.factor * 2, scale.factor), jnp.maximum(scale.factor / 2, 1.0))
    return LossScale(factor, jnp.where(finite & ~grow, scale.good + 1, 0))


def _cast(values: Any, dtype: str | None) -> Any:
    """Convert the floats of a pytree."""
    if dtype is None:
        return values
    return tree.map(lambda x: jnp.asarray(x, dtype) if dtypes.is_float(jnp.result_type(x)) else x, values)


def _check_precision(precision: Any, operation: str) -> None:
    if precision not in PRECISIONS:
        raise ArgumentError(f"{operation}: precision {precision!r:.40}", fix="choose None, 'bfloat16' or 'float16'")


def _check_state(state: Any, ema: float | None, precision: str | None) -> None:
    if not isinstance(state, TrainState):
        raise ArgumentError(
            f"step: the state is of type {type(state).__name__}, not TrainState",
            fix="start with state = train.init(model, optimizer, key, in_shape)",
        )
    for name, wanted in (("ema", ema is not None), ("scale", precision == "float16")):
        if wanted != (getattr(state, name) is not None):
            raise ArgumentError(
                f"step: state.{name} is {'missing' if wanted else 'there'}, which the options of make_step "
                f"{'need' if wanted else 'do not use'}",
                fix="pass the same ema and precision to init and make_step: init(…, ema=True, precision='float16')",
            )


def _check_loss(value: Any) -> None:
    if jnp.shape(value) != ():
        raise ShapeError(
            f"make_step: the loss is {aval_of(value)}, not a scalar", fix="return the mean over the minibatch"
        )
