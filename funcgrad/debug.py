"""funcgrad.debug: looking into traced and compiled code while it runs."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.effects.debugger import breakpoint as breakpoint
from funcgrad.transforms.effects.debugging import debug_callback as callback
from funcgrad.transforms.effects.debugging import debug_print as print

__all__ = ["breakpoint", "callback", "print"]

_explain_missing_names(__name__)
