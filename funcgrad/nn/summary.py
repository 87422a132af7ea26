"""A table of the layers of a model: output shapes, parameters, operations and memory."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.avals import ShapeDtypeStruct
from funcgrad.nn.layer import Application, Layer, abstract_init, recorded
from funcgrad.transforms.jit import jit
from funcgrad.transforms.make_jaxpr import eval_shape

_COLUMNS = ("layer", "output", "params", "FLOPs", "memory")


class Row(NamedTuple):
    """A layer of a model. The numbers are None for a layer whose parts have rows of their own.

    `shape` is the output shape without the batch axis, `flops` counts the operations for a batch, and `memory` is the
    size in bytes of the output for a batch.
    """

    depth: int
    name: str
    shape: Any
    params: int | None
    flops: int | None
    memory: int | None


class Summary(NamedTuple):
    """What `summary` returns: prints as text, and as a table in notebooks.

    `params` is the number of parameters, `param_bytes` and `state_bytes` are the sizes of parameters and state, `flops`
    counts the operations of a forward pass, and `memory` is the size in bytes of the outputs of all layers.
    """

    rows: tuple[Row, ...]
    batch: int
    params: int
    param_bytes: int
    state_bytes: int
    flops: int
    memory: int

    def __repr__(self) -> str:
        cells = [_COLUMNS, *map(_cells, self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(_COLUMNS))]
        lines = ["  ".join((*_aligned(row, widths),)).rstrip() for row in cells]
        rule = "─" * max(map(len, lines))
        return "\n".join((lines[0], rule, *lines[1:], rule, *self._totals()))

    def _repr_html_(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            styles = ["text-align:left;white-space:pre", "text-align:left", *["text-align:right"] * 3]
            parts = [f'<{tag} style="{s}">{html.escape(c)}</{tag}>' for c, s in zip(cells, styles, strict=True)]
            return f"<tr>{''.join(parts)}</tr>"

        body = "".join(line(_cells(row), "td") for row in self.rows)
        totals = "<br>".join(map(html.escape, self._totals()))
        return f"<table><thead>{line(_COLUMNS, 'th')}</thead><tbody>{body}</tbody></table><p>{totals}</p>"

    def _totals(self) -> list[str]:
        state = f", state of {_bytes(self.state_bytes)}" if self.state_bytes else ""
        examples = "1 example" if self.batch == 1 else f"{self.batch} examples"
        return [
            f"{self.params:,} parameters, {_bytes(self.param_bytes)}{state}",
            f"forward pass of {examples}: {_count(self.flops)} FLOPs, {_bytes(self.memory)} of outputs",
        ]


def summary(model: Layer, in_shape: Any, *, batch: int = 1, dtype: Any = None) -> Summary:
    """Return a table of the layers of a model: output shape, parameters, operations and memory.

    The model is traced, and not run. Shapes are those of one example; operations and memory are those of a forward pass
    of `batch` examples.

    Args:
      in_shape: the shape of one example, or an example, whose dtype counts; a tuple of these for several inputs.
      dtype: the dtype of the input, "float32" by default; use an integer type for models that start with an Embedding.

    >>> from funcgrad import nn
    >>> nn.summary(nn.Sequential(nn.Linear(8), nn.relu), 4)
    layer            output  params  FLOPs  memory
    ──────────────────────────────────────────────
    Sequential       (8,)
      [0] Linear(8)  (8,)        40     72    32 B
      [1] relu       (8,)         0     16    32 B
    ──────────────────────────────────────────────
    40 parameters, 160 B
    forward pass of 1 example: 88 FLOPs, 64 B of outputs
    """
    params, state = abstract_init(model, in_shape)
    examples = _examples(in_shape, batch, dtype)

    def apply(params: Any, x: Any, state: Any) -> Any:
        return model.apply_with_state(params, x, state)[0]

    with recorded() as applications:
        eval_shape(apply, params, examples, state)
    rows = _rows(applications)
    return Summary(
        rows,
        batch,
        _size(params),
        _nbytes(params),
        _nbytes(state),
        _flops(apply, params, examples, state),
        sum(row.memory or 0 for row in rows),
    )


def _examples(in_shape: Any, batch: int, dtype: Any) -> Any:
    """Return the avals of a batch of inputs."""
    if isinstance(in_shape, tuple | list) and any(isinstance(x, tuple | list) or hasattr(x, "shape") for x in in_shape):
        return tuple(_examples(part, batch, dtype) for part in in_shape)
    own = getattr(in_shape, "dtype", None) if getattr(in_shape, "shape", None) else None
    found = dtypes.requested(dtype, "summary") if dtype is not None else own or dtypes.canonicalize(float)
    sizes = getattr(in_shape, "shape", None) or (in_shape if isinstance(in_shape, Sequence) else (in_shape,))
    return ShapeDtypeStruct((batch, *sizes), found)


def _rows(applications: Sequence[Application]) -> tuple[Row, ...]:
    """Return a row for each application of a layer, in the order in which they start."""
    rows, seen = [], set()
    paths = [application.path for application in applications]
    top = paths[0].count("/") if paths[0] else -1
    for i, application in enumerate(applications):
        path, layer = application.path, application.layer
        has_parts = i + 1 < len(paths) and paths[i + 1].startswith(f"{path}/" if path else "") and paths[i + 1] != path
        depth = path.count("/") - top if path else 0
        name = path.rpartition("/")[2] or layer.name
        shape = tree.map(lambda y: y.shape[1:], application.y)
        if has_parts:
            rows.append(Row(depth, name, shape, None, None, None))
            continue
        params = 0 if path in seen else _size(application.params)
        seen.add(path)
        rows.append(Row(depth, name, shape, params, _flops_of(application), _nbytes(application.y)))
    return tuple(rows)


def _flops_of(application: Application) -> int:
    def run(params: Any, x: Any, state: Any) -> Any:
        return application.layer.apply_with_state(params, x, state)[0]

    return _flops(run, application.params, application.x, application.state)


def _flops(function: Any, *avals: Any) -> int:
    return int(jit(function).lower(*avals).cost_analysis()["flops"])


def _size(avals: Any) -> int:
    return sum(math.prod(a.shape) for a in tree.leaves(avals))


def _nbytes(avals: Any) -> int:
    return sum(math.prod(a.shape) * np.dtype(a.dtype).itemsize for a in tree.leaves(avals))


def _cells(row: Row) -> tuple[str, ...]:
    name = "  " * row.depth + row.name
    if row.params is None:
        return name, _shape(row.shape), "", "", ""
    return name, _shape(row.shape), f"{row.params:,}", _count(row.flops or 0), _bytes(row.memory or 0)


def _shape(shape: Any) -> str:
    return str(shape)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Sequence[str]:
    return [c.ljust(n) if i < 2 else c.rjust(n) for i, (c, n) in enumerate(zip(row, widths, strict=True))]


def _count(n: float) -> str:
    for unit in ("", " k", " M", " G"):
        if n < 1000:
            return f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.4g} T"


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} TiB"
