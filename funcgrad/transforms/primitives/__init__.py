"""Operations that users declare: by rules of their own, by an expansion, or by a function that numba compiled."""

from funcgrad.transforms.primitives.declare import Operation as Operation
from funcgrad.transforms.primitives.declare import primitive as primitive
from funcgrad.transforms.primitives.native import njit_op as njit_op
