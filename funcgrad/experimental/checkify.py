"""Run-time checks in compiled functions: `jax.experimental.checkify`."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.checkify import BatchedError as BatchedError
from funcgrad.transforms.checkify import DivisionByZeroError as DivisionByZeroError
from funcgrad.transforms.checkify import Error as Error
from funcgrad.transforms.checkify import ErrorCategory as ErrorCategory
from funcgrad.transforms.checkify import FailedCheckError as FailedCheckError
from funcgrad.transforms.checkify import JaxException as JaxException
from funcgrad.transforms.checkify import JaxRuntimeError as JaxRuntimeError
from funcgrad.transforms.checkify import NaNError as NaNError
from funcgrad.transforms.checkify import OOBError as OOBError
from funcgrad.transforms.checkify import all_checks as all_checks
from funcgrad.transforms.checkify import automatic_checks as automatic_checks
from funcgrad.transforms.checkify import check as check
from funcgrad.transforms.checkify import check_error as check_error
from funcgrad.transforms.checkify import checkify as checkify
from funcgrad.transforms.checkify import debug_check as debug_check
from funcgrad.transforms.checkify import div_checks as div_checks
from funcgrad.transforms.checkify import float_checks as float_checks
from funcgrad.transforms.checkify import index_checks as index_checks
from funcgrad.transforms.checkify import init_error as init_error
from funcgrad.transforms.checkify import nan_checks as nan_checks
from funcgrad.transforms.checkify import user_checks as user_checks

_explain_missing_names(__name__)
