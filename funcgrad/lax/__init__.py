"""funcgrad.lax: primitives as functions. Operands have equal dtypes and shapes: there is no implicit promotion.

The exceptions are weakly typed scalars, which get the dtype of the other operands, and scalars and axes of size 1,
which broadcast. The primitives themselves are here too, as ``lax.sin_p``.
"""
# ruff: noqa: F403

from typing import Any as _Any

from funcgrad.core.primitives import registry as _registry
from funcgrad.errors import missing_name as _missing_name
from funcgrad.lax import linalg as linalg
from funcgrad.lax.associative import *
from funcgrad.lax.convolution import *
from funcgrad.lax.elementwise import *
from funcgrad.lax.fourier import *
from funcgrad.lax.products import *
from funcgrad.lax.programs import *
from funcgrad.lax.reductions import *
from funcgrad.lax.shapes import *
from funcgrad.lax.slicing import *
from funcgrad.lax.sorting import *
from funcgrad.lax.windows import *
from funcgrad.ops.barriers import optimization_barrier as optimization_barrier
from funcgrad.transforms.collectives.functions import all_gather as all_gather
from funcgrad.transforms.collectives.functions import all_to_all as all_to_all
from funcgrad.transforms.collectives.functions import axis_index as axis_index
from funcgrad.transforms.collectives.functions import axis_size as axis_size
from funcgrad.transforms.collectives.functions import pbroadcast as pbroadcast
from funcgrad.transforms.collectives.functions import pmax as pmax
from funcgrad.transforms.collectives.functions import pmean as pmean
from funcgrad.transforms.collectives.functions import pmin as pmin
from funcgrad.transforms.collectives.functions import ppermute as ppermute
from funcgrad.transforms.collectives.functions import pshuffle as pshuffle
from funcgrad.transforms.collectives.functions import psum as psum
from funcgrad.transforms.collectives.functions import psum_scatter as psum_scatter
from funcgrad.transforms.collectives.functions import pswapaxes as pswapaxes
from funcgrad.transforms.control_flow import cond as cond
from funcgrad.transforms.control_flow import fori_loop as fori_loop
from funcgrad.transforms.control_flow import map as map
from funcgrad.transforms.control_flow import platform_dependent as platform_dependent
from funcgrad.transforms.control_flow import scan as scan
from funcgrad.transforms.control_flow import switch as switch
from funcgrad.transforms.control_flow import while_loop as while_loop
from funcgrad.transforms.custom_rules.linear_solve import custom_linear_solve as custom_linear_solve
from funcgrad.transforms.custom_rules.root import custom_root as custom_root


def __getattr__(name: str) -> _Any:
    stem = name.removesuffix("_p")
    for primitive in (stem, stem.replace("_", "-")):  # scatter_add_p is the primitive named scatter-add
        if name.endswith("_p") and primitive in _registry:
            return _registry[primitive]
    raise _missing_name(__name__, name)
