"""funcgrad: composable function transformations on NumPy-like programs.

>>> import funcgrad as fg
>>> import funcgrad.numpy as jnp
>>> fg.grad(lambda x: jnp.sum(x**2))(jnp.array([1.0, 2.0]))
Array([2., 4.], dtype=float32)
"""

import importlib as _importlib
from typing import Any as _Any

from funcgrad import dtypes as dtypes
from funcgrad import errors as errors
from funcgrad import numpy as numpy
from funcgrad import tree as tree
from funcgrad import tree_util as tree_util
from funcgrad.config import WITHOUT_EFFECT as _WITHOUT_EFFECT
from funcgrad.config import checking_leaks as checking_leaks
from funcgrad.config import config as config
from funcgrad.config import debug_infs as debug_infs
from funcgrad.config import debug_nans as debug_nans
from funcgrad.config import default_matmul_precision as default_matmul_precision
from funcgrad.config import disable_jit as disable_jit
from funcgrad.config import enable_checks as enable_checks
from funcgrad.config import enable_x64 as enable_x64
from funcgrad.config import explain_cache_misses as explain_cache_misses
from funcgrad.config import log_compiles as log_compiles
from funcgrad.config import numpy_dtype_promotion as numpy_dtype_promotion
from funcgrad.config import numpy_rank_promotion as numpy_rank_promotion
from funcgrad.config import without_effect as _without_effect
from funcgrad.core import array_types as _array_types
from funcgrad.core.avals import ShapeDtypeStruct as ShapeDtypeStruct
from funcgrad.core.devices import Device as Device
from funcgrad.core.devices import block_until_ready as block_until_ready
from funcgrad.core.devices import copy_to_host_async as copy_to_host_async
from funcgrad.core.devices import default_backend as default_backend
from funcgrad.core.devices import device_count as device_count
from funcgrad.core.devices import device_get as device_get
from funcgrad.core.devices import devices as devices
from funcgrad.core.devices import host_count as host_count
from funcgrad.core.devices import host_id as host_id
from funcgrad.core.devices import host_ids as host_ids
from funcgrad.core.devices import live_arrays as live_arrays
from funcgrad.core.devices import local_device_count as local_device_count
from funcgrad.core.devices import local_devices as local_devices
from funcgrad.core.devices import process_count as process_count
from funcgrad.core.devices import process_index as process_index
from funcgrad.core.devices import process_indices as process_indices
from funcgrad.core.scopes import named_scope as named_scope
from funcgrad.core.shardings import device_put as device_put
from funcgrad.core.traces import ensure_compile_time_eval as ensure_compile_time_eval
from funcgrad.dtypes import float0 as float0
from funcgrad.transforms.checkpoint import policies as _policies
from funcgrad.transforms.checkpoint.remat import checkpoint as checkpoint
from funcgrad.transforms.checkpoint.remat import remat as remat
from funcgrad.transforms.custom_rules.closures import closure_convert as closure_convert
from funcgrad.transforms.custom_rules.gradient import custom_gradient as custom_gradient
from funcgrad.transforms.custom_rules.jvp import custom_jvp as custom_jvp
from funcgrad.transforms.custom_rules.vjp import custom_vjp as custom_vjp
from funcgrad.transforms.derivatives import fwd_and_bwd as fwd_and_bwd
from funcgrad.transforms.derivatives import jvp as jvp
from funcgrad.transforms.derivatives import linear_transpose as linear_transpose
from funcgrad.transforms.derivatives import linearize as linearize
from funcgrad.transforms.derivatives import vjp as vjp
from funcgrad.transforms.effects.callbacks import effects_barrier as effects_barrier
from funcgrad.transforms.effects.callbacks import pure_callback as pure_callback
from funcgrad.transforms.grad import grad as grad
from funcgrad.transforms.grad import value_and_grad as value_and_grad
from funcgrad.transforms.jacobians import hessian as hessian
from funcgrad.transforms.jacobians import jacfwd as jacfwd
from funcgrad.transforms.jacobians import jacrev as jacrev
from funcgrad.transforms.jit import clear_caches as clear_caches
from funcgrad.transforms.jit import jit as jit
from funcgrad.transforms.make_jaxpr import eval_shape as eval_shape
from funcgrad.transforms.make_jaxpr import make_jaxpr as make_jaxpr
from funcgrad.transforms.make_jaxpr import named_call as named_call
from funcgrad.transforms.primitives import njit_op as njit_op
from funcgrad.transforms.primitives import primitive as primitive
from funcgrad.transforms.refs.functions import empty_ref as empty_ref
from funcgrad.transforms.refs.functions import free_ref as free_ref
from funcgrad.transforms.refs.functions import freeze as freeze
from funcgrad.transforms.refs.functions import new_ref as new_ref
from funcgrad.transforms.refs.ref import Ref as Ref
from funcgrad.transforms.vmap import vmap as vmap

Array = _array_types.ArrayLike
typeof = _array_types.aval_of
check_tracer_leaks = checking_leaks
checkpoint_policies = _policies
jacobian = jacrev
__version__ = "0.1.0"

# Imported when first used, so that `import funcgrad` stays fast.
_SUBMODULES = {
    "ad_checkpoint",
    "custom_batching",
    "custom_derivatives",
    "data",
    "debug",
    "dlpack",
    "experimental",
    "extend",
    "flatten_util",
    "image",
    "interop",
    "interpreters",
    "lax",
    "nn",
    "optim",
    "profiler",
    "random",
    "ref",
    "sklearn",
    "scipy",
    "sharding",
    "stages",
    "test_util",
    "testing",
    "typing",
    "version",
    "train",
}


# Functions of modules that are slow to import.
_LAZY = {
    **dict.fromkeys(("low_level_callable", "numba_callable"), "interop"),
    **dict.fromkeys(("NamedSharding", "P", "Shard", "make_mesh", "reshard", "set_mesh"), "sharding"),
    **dict.fromkeys(
        (f"make_array_from_{data}" for data in ("callback", "process_local_data", "single_device_arrays")), "sharding"
    ),
    **dict.fromkeys(("pmap", "shard_map", "smap"), "transforms.per_device"),
    "print_environment_info": "version",
}


def __getattr__(name: str) -> _Any:
    if name in _SUBMODULES:
        return _importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY:
        return getattr(_importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    if name in _WITHOUT_EFFECT:
        return _without_effect(name)
    raise errors.missing_name(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, *_LAZY, *_WITHOUT_EFFECT})
