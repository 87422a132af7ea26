"""funcgrad.dlpack: exchange of arrays with other libraries, without copies."""

from typing import Any

from funcgrad import dtypes as _dtypes
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.numpy import from_dlpack as from_dlpack

_SUPPORTED = (_dtypes.bool_, *(d for d in _dtypes.ALL if d.kind in "iufc"))


def is_supported_dtype(dtype: Any) -> bool:
    """Whether arrays of a dtype can be exchanged.

    >>> is_supported_dtype("float32"), is_supported_dtype("bfloat16")
    (True, False)
    """
    return _dtypes.as_dtype(dtype) in _SUPPORTED


_explain_missing_names(__name__)
