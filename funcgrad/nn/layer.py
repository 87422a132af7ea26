"""The Layer class: two pure functions and a name; and the checks that all layers share."""

from __future__ import annotations

import contextlib
import functools
import inspect
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.arguments.axes import as_int, as_shape
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.avals import ShapeDtypeStruct
from funcgrad.core.scopes import named_scope
from funcgrad.errors import ArgumentError, DTypeError, ShapeError, scopes
from funcgrad.random.keys import is_key, words_of
from funcgrad.random.keys import key as random_key
from funcgrad.transforms.flattening import name_of
from funcgrad.transforms.make_jaxpr import eval_shape

Shape = tuple[int, ...]
P = ParamSpec("P")

FROM_INIT = "pass the params of `out_shape, params = model.init(key, in_shape)`"
STATE_FROM_INIT = "pass the state of `out_shape, params, state = model.init(key, in_shape)`, or of the last apply"


class Layer:
    """A layer: a function that initializes parameters and one that applies them, `init, apply = layer`.

    `init` maps (key, in_shape) to (out_shape, params); `apply` maps (params, x, key=None, train=False) to the output.
    A layer with state, such as batch normalization, has `stateful` True. Its `init` returns (out_shape, params, state),
    and its `apply` maps (params, x, state=state, key=None, train=False) to (output, state). The state is unchanged
    without `train`. `init_with_state` and `apply_with_state` have these results for every layer; the state of a layer
    without state is ().

    `layers` are the parts of a composed layer, `labels` their names or positions, and the repr shows them. `kind` is
    the name of the function that made the layer, and `options` are its arguments. `keywords` are the names of further
    arguments of `apply`, such as the mask of an attention layer.

    >>> Layer(lambda key, in_shape: (in_shape, ()), lambda params, x, **options: 2 * x, "Double()")
    Double()
    """

    __slots__ = (
        "_apply",
        "_init",
        "_init_cache",
        "keywords",
        "kind",
        "labels",
        "layers",
        "name",
        "options",
        "stateful",
    )

    def __init__(
        self,
        init: Callable[..., tuple[Any, ...]],
        apply: Callable[..., Any],
        name: str = "Layer",
        layers: Sequence[Layer] = (),
        *,
        labels: Sequence[int | str] | None = None,
        stateful: bool | None = None,
        keywords: Sequence[str] = (),
        init_cache: Callable[[Any, int, int], Any] | None = None,
    ):
        self._init, self._apply, self.name, self.kind = init, apply, name, name
        self.layers = tuple(layers)
        self.labels = tuple(range(len(self.layers)) if labels is None else labels)
        self.stateful = any(layer.stateful for layer in self.layers) if stateful is None else stateful
        self.keywords, self._init_cache = tuple(keywords), init_cache
        self.options: Mapping[str, Any] = {}

    def init(self, key: Any, in_shape: Any) -> tuple[Any, ...]:
        """Return (out_shape, params), or (out_shape, params, state) for a layer with state.

        `in_shape` is the shape of one example, a single size, or an example; a tuple of these for several inputs.
        """
        operation = f"{self.name}: init"
        if is_key(in_shape):
            raise ArgumentError(f"{operation}: in_shape is a key", fix="the order of arguments is init(key, in_shape)")
        if key is not None:  # layers without parameters need no key
            words_of(operation, key)
        return self._init(key, _shape_of_example(in_shape, operation))

    def apply(
        self, params: Any, x: Any, *, state: Any = None, key: Any = None, train: bool = False, **keywords: Any
    ) -> Any:
        """Return the output for a batch of examples, x of shape (batch, *in_shape); with state, (output, state)."""
        for keyword in keywords:
            if keyword not in self.keywords:
                fix = f"further keyword arguments are {', '.join(self.keywords)}" if self.keywords else "it has none"
                raise ArgumentError(f"{self.name}: apply has no argument {keyword!r}", fix=fix)
        if self.stateful:
            if state is None:
                raise ArgumentError(
                    f"{self.name}: apply: no state was passed to a layer with state",
                    fix="`y, state = model.apply(params, x, state=state)`, where init returned the first state: "
                    "`out_shape, params, state = model.init(key, in_shape)`",
                )
            return self._applied(params, x, state, {"state": state, "key": key, "train": train, **keywords})
        if state is not None:
            raise ArgumentError(
                f"{self.name}: apply: a state of type {type(state).__name__} was passed to a layer without state",
                fix="`y = model.apply(params, x)`, or call apply_with_state, which takes and returns a state always",
            )
        return self._applied(params, x, (), {"key": key, "train": train, **keywords})

    def _applied(self, params: Any, x: Any, state: Any, options: dict[str, Any]) -> Any:
        records = _records.current
        if records is None:
            return self._apply(params, x, **options)
        i = len(records)
        records.append(None)  # those of the parts come after it
        y = self._apply(params, x, **options)
        avals = tree.map(lambda a: ShapeDtypeStruct(a.shape, a.dtype), (params, x, state, y[0] if self.stateful else y))
        records[i] = Application(scopes.path, self, *avals)
        return y

    def init_with_state(self, key: Any, in_shape: Any) -> tuple[Any, Any, Any]:
        """Return (out_shape, params, state); the state is () for a layer without state."""
        shape, params, *state = self.init(key, in_shape)
        return shape, params, state[0] if state else ()

    def apply_with_state(
        self, params: Any, x: Any, state: Any = (), *, key: Any = None, train: bool = False, **keywords: Any
    ) -> tuple[Any, Any]:
        """Return (output, state); the state is () for a layer without state."""
        if self.stateful:
            return self.apply(params, x, state=state, key=key, train=train, **keywords)
        empty = isinstance(state, Sequence) and not state
        return self.apply(params, x, state=None if empty else state, key=key, train=train, **keywords), state

    def init_cache(self, params: Any, batch: int, size: int) -> Any:
        """Return an empty cache of keys and values for `size` positions, of layers that attend to earlier positions."""
        if self._init_cache is None:
            fix = "MultiHeadAttention and the encoders and decoders of transformers have one"
            raise ArgumentError(f"{self.name}: init_cache: the layer has no cache", fix=fix)
        return self._init_cache(params, as_size(batch, "batch", self.name), as_size(size, "size", self.name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raise: a layer has no parameters of its own, so it cannot be called."""
        raise ArgumentError(
            f"{self.name}: a layer cannot be called, it is a pair of functions",
            fix="`out_shape, params = model.init(key, in_shape)`, then `y = model.apply(params, x)`",
        )

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.apply))

    def __repr__(self) -> str:
        parts = [self._labeled(label, layer) for label, layer in zip(self.labels, self.layers, strict=True)]
        return f"{self.name}(\n{textwrap.indent(chr(10).join(parts), '  ')}\n)" if parts else self.name

    def scope(self, label: int | str) -> named_scope:
        """Return the named scope of one part; errors in it name the part as in the repr."""
        return named_scope(self._labeled(label, self.layers[self.labels.index(label)].name))

    @staticmethod
    def _labeled(label: int | str, layer: Any) -> str:
        return f"{label}: {layer}" if isinstance(label, str) else f"[{label}] {layer}"


class Application(NamedTuple):
    """An application of a layer: the path of its scopes, and the avals of its arguments and of its output."""

    path: str
    layer: Layer
    params: Any
    x: Any
    state: Any
    y: Any


class _Records(threading.local):
    current: list[Any] | None = None


_records = _Records()


@contextlib.contextmanager
def recorded() -> Iterator[list[Application]]:
    """Record the layers that are applied within a with block, in the order in which they start."""
    outer, found = _records.current, []
    _records.current = found
    try:
        yield found
    finally:
        _records.current = outer


def _shape_of_example(given: Any, operation: str) -> Any:
    """Return the shape given by a size, a shape, or an example; a tuple of shapes for several inputs."""
    if isinstance(given, tuple | list) and any(isinstance(x, tuple | list) or hasattr(x, "aval") for x in given):
        return tuple(_shape_of_example(x, operation) for x in given)
    return as_shape(given if isinstance(given, np.integer) else getattr(given, "shape", given), operation)


def abstract_init(layer: Layer, in_shape: Any) -> tuple[Any, Any]:
    """Return the avals of the params and of the state of a layer, () for one without state."""
    params, state = eval_shape(lambda key: layer.init_with_state(key, in_shape)[1:], random_key(0))
    return params, state


_constructors: set[Callable[..., Any]] = set()


def constructor(make: Callable[P, Layer]) -> Callable[P, Layer]:
    """Decorate a function that makes layers: name each layer by the call that made it, `Linear(3, bias=False)`."""

    signature, kind = inspect.signature(make), name_of(make)

    @functools.wraps(make)
    def construct(*args: P.args, **kwargs: P.kwargs) -> Layer:
        layer = make(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        layer.kind, layer.options = kind, bound.arguments
        if not layer.layers:
            options = [*map(_option_repr, args), *(f"{name}={_option_repr(value)}" for name, value in kwargs.items())]
            layer.name = f"{kind}({', '.join(options)})"
        return layer

    _constructors.add(construct)
    return construct


def _option_repr(value: Any) -> str:
    return getattr(value, "__name__", None) or f"{value!r:.40}"


def is_constructor(x: Any) -> bool:
    """Whether `x` is a function that makes layers, which the user may have forgotten to call."""
    return callable(x) and x in _constructors


def parameters(params: Any, layer: str, shapes: Mapping[str, tuple[int | None, ...]], what: str = "parameter") -> list:
    """Return the named arrays of a layer in the order of `shapes`, whose sizes may be None: any.

    Raises:
      ArgumentError: a name is missing, or there are others.
      ShapeError, DTypeError: an array has another shape, or is not of floats.
    """
    whole, fix = ("params", FROM_INIT) if what == "parameter" else (what, STATE_FROM_INIT)
    has = f"keys {list(params)}" if isinstance(params, Mapping) else f"type {type(params).__name__}"
    for name in shapes:
        if not isinstance(params, Mapping) or name not in params:
            raise ArgumentError(f"{layer}: no {what} {name!r} in {whole} of {has}", fix=fix)
    for name in params if isinstance(params, Mapping) else ():
        if name not in shapes:
            expected = f"they are {', '.join(shapes)}" if shapes else "it has none"
            raise ArgumentError(f"{layer}: unknown {what} {name!r} in {whole} of {has}; {expected}", fix=fix)
    return [_checked(params[name], f"{layer}: {what} {name!r}", shape, fix) for name, shape in shapes.items()]


def _checked(value: Any, name: str, shape: tuple[int | None, ...], fix: str) -> Any:
    value = as_operand(value, name)
    if len(shape) != value.ndim or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise ShapeError(f"{name} is {value.aval}, not of shape ({expected})", fix=fix)
    if not dtypes.is_inexact(value.dtype):
        raise DTypeError(f"{name} is {value.aval}, not of floats", fix="cast it with .astype(float)")
    return value


def initial(initializer: Any, what: str, layer: str, key: Any, shape: Shape, dtype: Any) -> Any:
    """Call an initializer, and check that it returns an array of the right shape."""
    value = initializer(key, shape, dtype) if callable(initializer) else initializer
    if getattr(value, "shape", None) == shape:
        return value
    shown = f"{value!r:.60}" if value is initializer else f"a function that returned {value!r:.60}"
    raise ArgumentError(
        f"{layer}: {what} is {shown}, not an initializer for shape {shape}",
        fix=f"an initializer is a function (key, shape, dtype) → array, e.g. {what}=nn.initializers.he_normal()",
    )


def check_features(x: Any, size: int, layer: str, holder: str, axis: int = -1) -> None:
    """Raise unless an axis of `x` has the number of features that a parameter expects."""
    if not x.ndim or x.shape[axis] != size:
        place = "its last axis" if axis in (-1, x.ndim - 1) else f"axis {axis}"
        raise ShapeError(
            f"{layer}: the input {x.aval} has {x.shape[axis] if x.ndim else 'no'} features in {place}, "
            f"but {holder} expects {size}",
            fix="pass inputs of shape (batch, *in_shape), with the in_shape that was passed to init",
        )


def infer_shape(apply: Callable[[Any], Any], in_shape: Any) -> Any:
    """Return the shape of one output of `apply`, a function of a batch of inputs, by tracing it."""
    dtype = dtypes.canonicalize(float)
    several = bool(in_shape) and isinstance(in_shape[0], tuple)
    batches = [ShapeDtypeStruct((1, *shape), dtype) for shape in (in_shape if several else (in_shape,))]
    out = eval_shape(apply, tuple(batches) if several else batches[0])
    return tuple(x.shape[1:] for x in out) if isinstance(out, tuple) else out.shape[1:]


def as_size(value: Any, what: str, layer: str) -> int:
    """Return the number of features or rows of a layer; raise unless it is positive."""
    size = as_int(value, what, layer)
    if size < 1:
        raise ArgumentError(f"{layer}: {what} is {size}", fix="it must be at least 1")
    return size
