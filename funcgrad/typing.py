"""funcgrad.typing: types for annotations."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from funcgrad.core import array_types as _array_types
from funcgrad.errors import explain_missing_names as _explain_missing_names

ArrayLike: TypeAlias = _array_types.ArrayLike | np.ndarray | np.bool_ | np.number | bool | int | float | complex
"""What functions of arrays accept: arrays, NumPy arrays and scalars, and Python numbers."""


class _HasDType(Protocol):
    @property
    def dtype(self) -> np.dtype: ...


DTypeLike: TypeAlias = str | type[Any] | np.dtype | _HasDType
"""What names a dtype: a string, a scalar type, a dtype, or an object with a dtype."""

Shape: TypeAlias = Sequence[int]

_explain_missing_names(__name__)
