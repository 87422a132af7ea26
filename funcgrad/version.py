"""funcgrad.version: the version of the library, and of what it runs on."""

import platform as _platform
import sys as _sys

import llvmlite as _llvmlite
import numpy as _numpy

import funcgrad as _funcgrad
from funcgrad.errors import explain_missing_names as _explain_missing_names

__version__ = _funcgrad.__version__
__version_info__ = tuple(map(int, __version__.split(".")))


def print_environment_info(return_string: bool = False) -> str | None:
    """Print the versions of the library, of Python and of what computes, for reports of faults; or return the text.

    >>> print_environment_info(return_string=True).splitlines()[0]
    'funcgrad: 0.1.0'
    """
    text = "\n".join(
        [
            f"funcgrad: {__version__}",
            f"numpy:    {_numpy.__version__}",
            f"llvmlite: {_llvmlite.__version__}",
            f"python:   {_sys.version}",
            f"devices:  {_funcgrad.devices()}",
            f"platform: {_platform.uname()}",
        ]
    )
    if return_string:
        return text
    print(text)
    return None


_explain_missing_names(__name__)
