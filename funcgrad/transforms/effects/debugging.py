"""Looking into traced and compiled code while it runs: debug.print and debug.callback."""

from __future__ import annotations

import functools
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import AxisData, ParamStyle, Primitive
from funcgrad.core.tracers import formatted_in
from funcgrad.errors import ArgumentError
from funcgrad.ops.shapes import squeeze
from funcgrad.ops.slicing import slice_
from funcgrad.transforms.effects.callbacks import HostFunction
from funcgrad.transforms.flattening import callable_or_error


def _element(x: Any, dim: int, i: int) -> Any:
    """x[…, i, …] with i at dimension `dim`."""
    shape = aval_of(x).shape
    start = [i if d == dim else 0 for d in range(len(shape))]
    limit = [i + 1 if d == dim else n for d, n in enumerate(shape)]
    return squeeze(slice_(x, start, limit), (dim,))


def _observer(name: str, **options: Any) -> Primitive:
    """Declare a primitive that calls a function of its operands and has no result.

    Under a derivative it sees the primals, under vmap one element after the other.
    """

    def infer(*avals: ShapedArray, **params: Any) -> list[ShapedArray]:
        return []

    def evaluate(*operands: Any, callback: HostFunction, **params: Any) -> list[Any]:
        callback(*operands)
        return []

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[list[Any], list[Any]]:
        return primitive.bind(*primals, **params), []

    def batch(
        axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], **params: Any
    ) -> tuple[list[Any], list[Any]]:
        size = axis.size
        for i in range(size):
            elements = [a if d is None else _element(a, d, i) for a, d in zip(args, dims, strict=True)]
            primitive.bind(*elements, **params)
        return [], []

    primitive = Primitive(
        name, infer=infer, evaluate=evaluate, jvp=jvp, batch=batch, multiple_results=True, effectful=True, **options
    )
    return primitive


debug_callback_p = _observer("debug_callback")
debug_print_p = _observer("debug_print", params_style=ParamStyle(hidden=lambda name, value: name == "callback"))


def debug_callback(
    callback: Callable[..., Any] | None = None,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    **kwargs: Any,
) -> Any:
    """Call callback(*args, **kwargs), a Python function, each time the program gets there; its result is dropped.

    The function gets arrays; leaves that are no arrays, such as strings, reach it as they are. It changes nothing
    of what is computed: it has no derivative, under `grad` it sees the values, under `vmap` it is called for each
    element. All effects happen in the order of the program, `ordered` or not; `partitioned` is accepted for
    compatibility. Without `callback`, returns a function of (callback, arguments…) with these options.

    >>> import funcgrad as fg
    >>> def f(x):
    ...     debug_callback(lambda value, name: print(name, value), x, name="x is")
    ...     return x * x
    >>> fg.grad(f)(3.0)
    x is 3.0
    Array(6., dtype=float32, weak_type=True)
    """
    if callback is None:
        _no_arguments("debug.callback", args, kwargs)
        return lambda fun, *args, **kwargs: _observe(fun, args, kwargs, ordered)
    return _observe(callback, args, kwargs, ordered)


def _observe(callback: Callable[..., Any], args: tuple, kwargs: dict[str, Any], ordered: bool) -> None:
    callable_or_error(callback, "debug.callback")
    function = HostFunction(callback, (args, kwargs), None, "debug.callback")
    debug_callback_p.bind(*function.take_arrays(), callback=function, ordered=ordered)


def _no_arguments(operation: str, args: tuple, kwargs: dict[str, Any]) -> None:
    if args or kwargs:
        raise ArgumentError(
            f"{operation}: arguments {[*args, *kwargs]} without what to do with them",
            fix="pass them to the function that is returned",
        )


class _FormatChecker(string.Formatter):
    """Formats zeros for arrays; raises on fields that have no argument, and knows which arguments the fields used."""

    used: set[int | str]

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            return super().get_value(key, args, kwargs)
        except IndexError:
            raise KeyError(key) from None

    def format_field(self, value: Any, format_spec: str) -> Any:
        if isinstance(value, (ArrayLike, np.ndarray)):
            value = str(value.shape) if value.shape else np.zeros((), value.dtype)[()]
        return super().format_field(value, format_spec)

    def check_unused_args(self, used_args: set[int | str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.used = used_args


def _check_format(text: str, fmt: str, args: tuple, kwargs: dict[str, Any]) -> None:
    """Raise unless fields and arguments fit each other; `text` is the format before `formatted_in`."""
    checker = _FormatChecker()
    try:
        checker.format(fmt, *args, **kwargs)
    except LookupError as e:
        raise ArgumentError(
            f"debug.print: the format {text!r:.80} has a field for argument {e.args[0]!r}, which was not given",
            fix='pass values as arguments, debug.print("x = {x}", x=x); write braces that are text twice, {{ }}',
        ) from None
    except (ValueError, TypeError, AttributeError) as e:
        raise ArgumentError(
            f"debug.print: the format {text!r:.80} does not fit its arguments: {e}",
            fix="use a format that the values have; write braces that are text twice, {{ }}",
        ) from None
    unused = [a for i, a in enumerate(args) if i not in checker.used]
    if unused:
        raise ArgumentError(
            f"debug.print: unused positional arguments {unused}", fix="give the format string one {} for each"
        )
    names = [k for k in kwargs if k not in checker.used]
    if names:
        raise ArgumentError(
            f"debug.print: unused keyword arguments {names}; an f-string was formatted before it came here",
            fix='pass a plain string, "{x}" and not f"{x}", and the values as arguments',
        )


def _field_for(value: Any, spec: str, kwargs: dict[str, Any]) -> str:
    """Make what an f-string formatted an argument, and return a field for it."""
    name = f"#{len(kwargs)}"
    kwargs[name] = value
    return f"{{{name}:{spec}}}" if spec else f"{{{name}}}"


def _has_fields(text: str) -> bool:
    return any(field is not None for _, field, _, _ in string.Formatter().parse(text))


def _print(options: dict[str, Any], text: str, *args: Any, **kwargs: Any) -> None:
    if _has_fields(text):
        with np.printoptions(**options):
            text = text.format(*args, **kwargs)
    else:
        text = " ".join([text, *map(str, args)])
    print(text)


def debug_print(
    fmt: str | None = None,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    skip_format_check: bool = False,
    **kwargs: Any,
) -> Any:
    """Print fmt.format(*args, **kwargs) each time the program gets there, also under jit.

    `fmt` is a format string. Traced values that an f-string put into it are printed as well, as if they were
    arguments; other braces that are left in the text are fields. Under `vmap` it prints once per element, under `grad`
    the values. NumPy's print options are those of the time of tracing. All effects happen in the order of the
    program, `ordered` or not; `partitioned` is accepted for compatibility. Without `fmt`, returns a function of
    (fmt, arguments…) with these options.

    >>> import funcgrad as fg
    >>> fg.jit(lambda x: debug_print("x = {x:.2f}, twice {}", 2 * x, x=x))(1.5)
    x = 1.50, twice 3.0
    >>> fg.jit(lambda x: debug_print(f"x = {x:.2f}, twice {2 * x}"))(1.5)
    x = 1.50, twice 3.0
    """

    def printer(fmt: str, *args: Any, **kwargs: Any) -> None:
        if not isinstance(fmt, str):
            raise ArgumentError(
                f"debug.print: the format is {fmt!r:.80} of type {type(fmt).__name__}",
                fix='pass a string first, for instance debug.print("{}", x)',
            )
        text, fmt = fmt, formatted_in(fmt, lambda value, spec: _field_for(value, spec, kwargs))
        if not skip_format_check:
            _check_format(text, fmt, args, kwargs)
        show = functools.partial(_print, dict(np.get_printoptions()), fmt)
        function = HostFunction(show, (args, kwargs), None, "debug.print")
        debug_print_p.bind(*function.take_arrays(), callback=function, fmt=fmt, ordered=ordered)

    if fmt is None:
        _no_arguments("debug.print", args, kwargs)
        return printer
    return printer(fmt, *args, **kwargs)
