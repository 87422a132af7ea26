"""Functions with derivatives of their own, and what their rules are written with.

>>> import funcgrad as fg
>>> @fg.custom_jvp
... def f(x):
...     return x * x
>>> f.defjvps(lambda v, value, x: 10.0 * v)
>>> fg.grad(f)(3.0)
Array(10., dtype=float32, weak_type=True)
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.custom_rules.closures import SymbolicZero as SymbolicZero
from funcgrad.transforms.custom_rules.closures import closure_convert as closure_convert
from funcgrad.transforms.custom_rules.closures import zero_from_primal as zero_from_primal
from funcgrad.transforms.custom_rules.gradient import custom_gradient as custom_gradient
from funcgrad.transforms.custom_rules.jvp import custom_jvp as custom_jvp
from funcgrad.transforms.custom_rules.jvp import custom_jvp_call_p as custom_jvp_call_p
from funcgrad.transforms.custom_rules.linear_call import linear_call as linear_call
from funcgrad.transforms.custom_rules.vjp import CustomVJPPrimal as CustomVJPPrimal
from funcgrad.transforms.custom_rules.vjp import custom_vjp as custom_vjp
from funcgrad.transforms.custom_rules.vjp import custom_vjp_call_p as custom_vjp_call_p
from funcgrad.transforms.custom_rules.vjp import custom_vjp_primal_tree_values as custom_vjp_primal_tree_values

_explain_missing_names(__name__)
