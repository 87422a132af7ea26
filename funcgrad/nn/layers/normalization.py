"""Layers that normalize their input."""

from __future__ import annotations

from typing import Any

from funcgrad.arguments.axes import as_number
from funcgrad.arguments.promotion import as_operand
from funcgrad.errors import ShapeError
from funcgrad.nn import initializers, normalizers
from funcgrad.nn.layer import Layer, Shape, check_features, constructor, parameter


@constructor
def LayerNorm(*, epsilon: float = 1e-5, scale: bool = True, bias: bool = True, dtype: Any = None) -> Layer:
    """Standardize each vector along the last axis, then scale and shift: (…, n) → (…, n).

    Params: {"scale": (n,), "bias": (n,)}. Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
    """
    as_number(epsilon, "epsilon", "LayerNorm", "[0, inf)")

    def init(key: Any, in_shape: Shape) -> tuple[Shape, Any]:
        if not in_shape:
            raise ShapeError(
                "LayerNorm: the input is a scalar", fix="the last axis of the input is that of the features"
            )
        size = (in_shape[-1],)
        params = {"scale": initializers.ones(key, size, dtype)} if scale else {}
        if bias:
            params["bias"] = initializers.zeros(key, size, dtype)
        return in_shape, params

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        x = as_operand(x, "LayerNorm")
        parts = {name: parameter(params, name, "LayerNorm") for name, has in (("scale", scale), ("bias", bias)) if has}
        for name, part in parts.items():
            check_features(x, part.shape[0], "LayerNorm", f"the {name} {part.aval}")
        y = normalizers.standardize(x, epsilon=epsilon, algorithm="stable")
        y = y * parts["scale"] if scale else y
        return y + parts["bias"] if bias else y

    return Layer(init, apply)
