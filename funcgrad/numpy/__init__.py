"""funcgrad.numpy: the NumPy API on funcgrad arrays."""
# ruff: noqa: F403

from funcgrad.numpy import operators as operators
from funcgrad.numpy.bits import *
from funcgrad.numpy.comparing import *
from funcgrad.numpy.composite import *
from funcgrad.numpy.creation import *
from funcgrad.numpy.indexing import *
from funcgrad.numpy.joining import *
from funcgrad.numpy.linear import *
from funcgrad.numpy.masks import *
from funcgrad.numpy.nan_reductions import *
from funcgrad.numpy.padding import *
from funcgrad.numpy.polynomials import *
from funcgrad.numpy.quantiles import *
from funcgrad.numpy.reductions import *
from funcgrad.numpy.shaping import *
from funcgrad.numpy.signals import *
from funcgrad.numpy.sorting import *
from funcgrad.numpy.statistics import *
from funcgrad.numpy.tools import *
from funcgrad.numpy.types import *
from funcgrad.numpy.ufunc_methods import *
from funcgrad.numpy.ufuncs import *
