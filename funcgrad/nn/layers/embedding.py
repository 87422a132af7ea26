"""Tables of vectors, looked up by integers."""

from __future__ import annotations

import math
from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import DTypeError
from funcgrad.nn import initializers
from funcgrad.nn.labels import validity, widen
from funcgrad.nn.layer import Layer, Shape, as_size, constructor, initial, parameters
from funcgrad.nn.torch import Tensor, torch_tensors


@constructor
def Embedding(
    count: int, features: int, *, table_init: initializers.Initializer | None = None, dtype: Any = None
) -> Layer:
    """Look up rows of a table: integers from 0 to count − 1, (…) → (…, features). Params: {"table": (count, features)}.

    An index out of range raises an error if it is concrete; if it is traced, as under `jit`, the row and its derivative
    are NaN. By default, the table is initialized from a normal distribution with standard deviation 1/√features.
    """
    count, features = as_size(count, "count", "Embedding"), as_size(features, "features", "Embedding")
    table_init = table_init or initializers.normal(1 / math.sqrt(features))

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        return (*in_shape, features), {
            "table": initial(table_init, "table_init", "Embedding", key, (count, features), dtype)
        }

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        (table,), x = parameters(params, "Embedding", {"table": (None, features)}), as_operand(x, "Embedding")
        if not dtypes.is_integer(x.dtype):
            raise DTypeError(
                f"Embedding: the input {x.aval} does not hold row indices", fix="cast it with .astype(int)"
            )
        rows = table.shape[0]
        x = widen(x, rows)
        factor = validity(
            x,
            lambda number: (number >= 0) & (number < rows),
            table.dtype,
            f"Embedding: the input has {{}}, but the table {table.aval} has rows 0 to {rows - 1}",
            "make count larger than every index in the input",
        )
        return table[x] if isinstance(factor, int) else table[x] * factor[..., None]

    return Layer(init, apply)


@torch_tensors("Embedding")
def _tensors(layer: Layer) -> list[Tensor]:
    return [Tensor("weight", ("table",))]
