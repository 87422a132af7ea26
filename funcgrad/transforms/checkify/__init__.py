"""Checks of values that are known only when the program runs, in functions that are compiled."""

from funcgrad.transforms.checkify.error import Error as Error
from funcgrad.transforms.checkify.error import check as check
from funcgrad.transforms.checkify.error import check_error as check_error
from funcgrad.transforms.checkify.error import debug_check as debug_check
from funcgrad.transforms.checkify.error import init_error as init_error
from funcgrad.transforms.checkify.exceptions import BatchedError as BatchedError
from funcgrad.transforms.checkify.exceptions import DivisionByZeroError as DivisionByZeroError
from funcgrad.transforms.checkify.exceptions import FailedCheckError as FailedCheckError
from funcgrad.transforms.checkify.exceptions import JaxException as JaxException
from funcgrad.transforms.checkify.exceptions import JaxRuntimeError as JaxRuntimeError
from funcgrad.transforms.checkify.exceptions import NaNError as NaNError
from funcgrad.transforms.checkify.exceptions import OOBError as OOBError
from funcgrad.transforms.checkify.functionalize import ErrorCategory as ErrorCategory
from funcgrad.transforms.checkify.functionalize import all_checks as all_checks
from funcgrad.transforms.checkify.functionalize import automatic_checks as automatic_checks
from funcgrad.transforms.checkify.functionalize import checkify as checkify
from funcgrad.transforms.checkify.functionalize import div_checks as div_checks
from funcgrad.transforms.checkify.functionalize import float_checks as float_checks
from funcgrad.transforms.checkify.functionalize import index_checks as index_checks
from funcgrad.transforms.checkify.functionalize import nan_checks as nan_checks
from funcgrad.transforms.checkify.functionalize import user_checks as user_checks
