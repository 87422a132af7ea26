"""Calls of NumPy that do not warn: overflow and invalid values are results here, as they are in compiled programs."""

from __future__ import annotations

import contextvars
import threading

import numpy as np


class _Quiet(threading.local):
    """Per thread, a context in which NumPy does not warn: entering it costs 20 ns, `np.errstate` costs 900 ns.

    A context is entered once at a time: what runs in it must not run code of users, which may come back here.
    """

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.run = context.run


quiet = _Quiet()
