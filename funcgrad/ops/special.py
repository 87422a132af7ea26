"""Elementwise special functions: error functions, gamma functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.errors import MissingRuleError
from funcgrad.ops.arithmetic import exp_p
from funcgrad.ops.elementwise import elementwise


def _scipy(name: str) -> Callable[..., Any]:
    """Return SciPy's function, imported at its first use; narrow floats are computed in float32."""

    @functools.wraps(_scipy)
    def evaluate(*xs: Any) -> Any:
        from scipy import special  # heavy: only when such a function is evaluated

        dtype = xs[0].dtype
        wide = np.float32 if dtype in (dtypes.float16, dtypes.bfloat16) else dtype
        return np.asarray(getattr(special, name)(*(x.astype(wide) for x in xs))).astype(dtype)

    return evaluate


def _no_derivative(name: str) -> Callable[..., Any]:
    def derivative(*_: Any, **__: Any) -> Any:
        raise MissingRuleError(f"{name}: the derivative is not implemented", fix="use custom_jvp to give one")

    return derivative


_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
_HALF_SQRT_PI = math.sqrt(math.pi) / 2
REAL_ONLY = ("float",)

erf_p = elementwise("erf", _scipy("erf"), derivative=lambda ans, x: exp_p.bind(-(x * x)) * _TWO_OVER_SQRT_PI, kinds=REAL_ONLY)
erfc_p = elementwise(
    "erfc", _scipy("erfc"), derivative=lambda ans, x: exp_p.bind(-(x * x)) * -_TWO_OVER_SQRT_PI, kinds=REAL_ONLY
)
erf_inv_p = elementwise(
    "erf_inv", _scipy("erfinv"), derivative=lambda ans, x: exp_p.bind(ans * ans) * _HALF_SQRT_PI, kinds=REAL_ONLY
)
lgamma_p = elementwise("lgamma", _scipy("gammaln"), derivative=lambda ans, x: digamma_p.bind(x), kinds=REAL_ONLY)
digamma_p = elementwise("digamma", _scipy("digamma"), derivative=_no_derivative("digamma"), kinds=REAL_ONLY)
