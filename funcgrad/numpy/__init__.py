"""funcgrad.numpy: the NumPy API on funcgrad arrays."""
# ruff: noqa: F403

import numpy as _numpy

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.numpy import fft as fft
from funcgrad.numpy import linalg as linalg
from funcgrad.numpy import operators as operators
from funcgrad.numpy import protocols as protocols
from funcgrad.numpy.array_api import __array_api_version__ as __array_api_version__
from funcgrad.numpy.array_api import __array_namespace_info__ as __array_namespace_info__
from funcgrad.numpy.bits import *
from funcgrad.numpy.comparing import *
from funcgrad.numpy.composite import *
from funcgrad.numpy.creation import *
from funcgrad.numpy.indexing import *
from funcgrad.numpy.joining import *
from funcgrad.numpy.masks import *
from funcgrad.numpy.matrices import *
from funcgrad.numpy.nan_reductions import *
from funcgrad.numpy.number_parts import *
from funcgrad.numpy.padding import *
from funcgrad.numpy.polynomials import *
from funcgrad.numpy.products import *
from funcgrad.numpy.quantiles import *
from funcgrad.numpy.reductions import *
from funcgrad.numpy.shapes import *
from funcgrad.numpy.signals import *
from funcgrad.numpy.sorting import *
from funcgrad.numpy.statistics import *
from funcgrad.numpy.tools import *
from funcgrad.numpy.types import *
from funcgrad.numpy.ufunc_methods import *
from funcgrad.numpy.ufuncs import *

# `numpy.sin(x)` of a traced x is `sin(x)`.
protocols.register(_numpy, {name: value for name, value in globals().items() if not name.startswith("_")})

_explain_missing_names(__name__)
