"""debug.breakpoint: a prompt in the middle of a running program.

The frames of the user's code are taken when the breakpoint is traced; their traced values become operands, so that the
prompt shows their values in the current run.
"""

from __future__ import annotations

import cmd
import linecache
import os
import pprint
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import IO, Any, NamedTuple

from funcgrad import tree
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, is_internal
from funcgrad.transforms.effects.callbacks import pure_callback
from funcgrad.transforms.effects.debugging import debug_callback

_one_at_a_time = threading.RLock()


def _after_fork_in_child() -> None:
    """Nobody sits at a prompt of the parent's any more."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Frame(NamedTuple):
    """A frame of the user's code: where it is, and its variables by name."""

    filename: str
    line: int
    function: str
    variables: dict[str, Any]

    def source(self, around: int) -> list[str]:
        """Return the lines around the current line, with an arrow at it."""
        lines = [f"> {self.filename}({self.line}) in {self.function}"]
        for number in range(max(1, self.line - around), self.line + around + 1):
            text = linecache.getline(self.filename, number)
            if text:
                lines.append(("->  " if number == self.line else "    ") + text.rstrip("\n"))
        return lines


def _frames(start: FrameType | None, filter_frames: bool, most: int | None) -> list[Frame]:
    """The stack from `start` outwards, innermost frame first."""
    frames: list[Frame] = []
    while start is not None and (most is None or len(frames) < most):
        code = start.f_code
        if not (filter_frames and is_internal(code.co_filename)):
            frames.append(Frame(code.co_filename, start.f_lineno, code.co_name, dict(start.f_locals)))
        start = start.f_back
    return frames


def _traced_leaves(value: Any) -> list[Tracer]:
    """The traced values within a variable; none where it is no pytree."""
    try:
        leaves = tree.leaves(value)
    except Exception:  # a user-defined pytree node may raise anything: show the variable as it is
        return []
    return [x for x in leaves if isinstance(x, Tracer) and x._trace.valid]


class _Stack:
    """Frames whose traced values are given when the breakpoint is reached."""

    def __init__(self, frames: Sequence[Frame]):
        self.frames = frames
        self._traced = [{k for k, v in f.variables.items() if _traced_leaves(v)} for f in frames]
        found = [x for f in frames for v in f.variables.values() for x in _traced_leaves(v)]
        self.tracers = list({id(x): x for x in found}.values())

    def filled(self, values: Sequence[Any]) -> list[Frame]:
        """Return the frames with values in the places of traced ones."""
        of = {id(x): value for x, value in zip(self.tracers, values, strict=True)}
        return [
            f._replace(
                variables=f.variables | {k: tree.map(lambda x: of.get(id(x), x), f.variables[k]) for k in traced}
            )
            for f, traced in zip(self.frames, self._traced, strict=True)
        ]


class Prompt(cmd.Cmd):
    """A prompt over frames, with commands as in pdb; anything else is an expression to evaluate."""

    prompt = "(jdb) "
    intro = "Entering jdb:"

    def __init__(self, frames: Sequence[Frame], stdin: IO[str] | None = None, stdout: IO[str] | None = None):
        super().__init__(stdin=stdin, stdout=stdout)
        self.use_rawinput = stdin is None
        self.frames, self.at = frames, 0

    def show(self, *lines: str) -> None:
        """Write lines."""
        print(*lines, sep="\n", file=self.stdout)

    def evaluate(self, expression: str, form: Any = repr) -> None:
        """Show the value of an expression in the current frame, or the error."""
        try:
            self.show(form(eval(expression, {}, self.frames[self.at].variables)))
        except Exception as e:
            self.show(f"*** {type(e).__name__}: {e}")

    def default(self, line: str) -> None:
        self.evaluate(line)

    def emptyline(self) -> bool:
        return False

    def do_p(self, line: str) -> None:
        """p expression: print its value."""
        self.evaluate(line)

    def do_pp(self, line: str) -> None:
        """pp expression: print its value, over several lines where it is long."""
        self.evaluate(line, pprint.pformat)

    def do_u(self, line: str) -> None:
        """u(p): go to the caller's frame."""
        self.move(1, "At topmost frame.")

    def do_d(self, line: str) -> None:
        """d(own): go to the frame that this one called."""
        self.move(-1, "At bottommost frame.")

    def move(self, step: int, end: str) -> None:
        """Go to another frame, if there is one."""
        if 0 <= self.at + step < len(self.frames):
            self.at += step
        else:
            self.show(end)
        self.show(*self.frames[self.at].source(2))

    def do_l(self, line: str) -> None:
        """l(ist): show the source around the current line."""
        self.show(*self.frames[self.at].source(5))

    def do_w(self, line: str) -> None:
        """w(here): show the stack, the innermost frame last."""
        for frame in reversed(self.frames):
            self.show(f'  File "{frame.filename}", line {frame.line}, in {frame.function}')
            self.show("    " + linecache.getline(frame.filename, frame.line).strip())

    def do_c(self, line: str) -> bool:
        """c(ontinue): let the program go on."""
        return True

    def do_q(self, line: str) -> None:
        """q(uit): leave the program; SystemExit comes out of the call."""
        sys.exit(0)

    do_up, do_down, do_list, do_where, do_bt = do_u, do_d, do_l, do_w, do_w
    do_cont = do_continue = do_c
    do_quit = do_exit = do_EOF = do_q


def breakpoint(
    *,
    backend: str | None = None,
    filter_frames: bool = True,
    num_frames: int | None = None,
    ordered: bool = False,
    token: Any = None,
    stdin: IO[str] | None = None,
    stdout: IO[str] | None = None,
) -> Any:
    """Stop at a prompt each time the program gets there, also under jit, and show the variables of the user's code.

    Commands: p and pp print an expression, u and d go to the caller's frame and back, l lists the source, w shows
    the stack, c goes on, q leaves. `filter_frames` leaves out frames of this library, `num_frames` is the most that
    are kept. With `token`, an array or pytree of arrays, the program stops when those are computed, and they are
    returned. `stdin` and `stdout` are the streams to use; `backend` is accepted for compatibility.

    >>> import io, funcgrad as fg
    >>> def f(x):
    ...     y = x + 1
    ...     breakpoint(stdin=io.StringIO("p y\\nc"), stdout=sys.stdout)
    ...     return y
    >>> fg.jit(f)(2.0)
    Entering jdb:
    (jdb) Array(3., dtype=float32)
    (jdb) Array(3., dtype=float32, weak_type=True)
    """
    if token is not None and ordered:
        raise ArgumentError("debug.breakpoint: both ordered and token were given", fix="give one of them")
    stack = _Stack(_frames(sys._getframe(1), filter_frames, num_frames))

    def stop(*values: Any) -> None:
        with _one_at_a_time:
            Prompt(stack.filled(values), stdin, stdout).cmdloop()

    def stop_and_return(token: Any, *values: Any) -> Any:
        stop(*values)
        return token

    if token is None:
        debug_callback(stop, *stack.tracers, ordered=ordered)
        return None
    return pure_callback(stop_and_return, token, token, *stack.tracers)
