"""funcgrad.debug: looking into traced and compiled code while it runs."""

from funcgrad.transforms.debugger import breakpoint as breakpoint
from funcgrad.transforms.debugging import debug_callback as callback
from funcgrad.transforms.debugging import debug_print as print

__all__ = ["breakpoint", "callback", "print"]
