"""Sparse arrays: `jax.experimental.sparse`, for the formats BCOO and BCSR.

They are pytrees of arrays, and their operations are gathers and scatters, so they pass through jit, grad and vmap.

>>> import funcgrad.numpy as jnp
>>> m = BCOO.fromdense(jnp.array([[0.0, 2.0], [3.0, 0.0]]))
>>> m
BCOO(float32[2, 2], nse=2)
>>> m @ jnp.array([1.0, 10.0])
Array([20.,  3.], dtype=float32)
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.experimental.sparse.bcoo import BCOO as BCOO
from funcgrad.experimental.sparse.bcoo import bcoo_fromdense as bcoo_fromdense
from funcgrad.experimental.sparse.bcoo import empty as empty
from funcgrad.experimental.sparse.bcoo import eye as eye
from funcgrad.experimental.sparse.bcsr import BCSR as BCSR
from funcgrad.experimental.sparse.bcsr import bcsr_dot_general as bcsr_dot_general
from funcgrad.experimental.sparse.bcsr import bcsr_extract as bcsr_extract
from funcgrad.experimental.sparse.bcsr import bcsr_fromdense as bcsr_fromdense
from funcgrad.experimental.sparse.bcsr import bcsr_sum_duplicates as bcsr_sum_duplicates
from funcgrad.experimental.sparse.bcsr import bcsr_todense as bcsr_todense
from funcgrad.experimental.sparse.bcsr import todense as todense
from funcgrad.experimental.sparse.coordinates import bcoo_extract as bcoo_extract
from funcgrad.experimental.sparse.coordinates import bcoo_sort_indices as bcoo_sort_indices
from funcgrad.experimental.sparse.coordinates import bcoo_sum_duplicates as bcoo_sum_duplicates
from funcgrad.experimental.sparse.coordinates import bcoo_todense as bcoo_todense
from funcgrad.experimental.sparse.derivatives import grad as grad
from funcgrad.experimental.sparse.derivatives import value_and_grad as value_and_grad
from funcgrad.experimental.sparse.products import bcoo_dot_general as bcoo_dot_general
from funcgrad.experimental.sparse.products import bcoo_multiply_dense as bcoo_multiply_dense
from funcgrad.experimental.sparse.products import bcoo_multiply_sparse as bcoo_multiply_sparse
from funcgrad.experimental.sparse.views import bcoo_concatenate as bcoo_concatenate
from funcgrad.experimental.sparse.views import bcoo_reduce_sum as bcoo_reduce_sum
from funcgrad.experimental.sparse.views import bcoo_transpose as bcoo_transpose

_explain_missing_names(__name__)
