"""Jaxprs as text, in JAX's syntax, and as HTML for notebooks."""

from __future__ import annotations

import html as html_escape
import itertools
import re
import string
from collections import Counter
from collections.abc import Callable, Container, Iterable
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, subjaxprs

_WIDTH = 80


class _Names:
    """Names for variables in order of first appearance, shared by a jaxpr and those inside it."""

    def __init__(self) -> None:
        self.of: dict[Var, str] = {}
        self._fresh = map(_name, itertools.count())
        self.shared: dict[int, str] = {}

    def __getitem__(self, var: Var) -> str:
        if var not in self.of:
            self.of[var] = next(self._fresh)
        return self.of[var]

    def adopt(self, inner: Iterable[Atom], outer: Iterable[Atom], unused: Container[Var] = ()) -> None:
        """Give variables of an inner jaxpr the names of the values that flow into them, where they have none yet."""
        for i, o in zip(inner, outer, strict=True):
            if isinstance(i, Var) and isinstance(o, Var) and i not in self.of:
                self.of[i] = "_" if o in unused else self[o]


def _name(n: int) -> str:
    """The n-th variable name: n in base 26, with letters for digits; z is followed by ba."""
    more, last = divmod(n, 26)
    return (_name(more) if more else "") + string.ascii_lowercase[last]


def format_jaxpr(jaxpr: Jaxpr) -> str:
    """Return the jaxpr as JAX prints it.

    >>> import funcgrad as fg
    >>> print(fg.make_jaxpr(lambda x: fg.numpy.sin(x) * 2)(1.0))
    { lambda ; a:f32[]. let b:f32[] = sin a; c:f32[] = mul b 2.0:f32[] in (c,) }
    """
    names = _Names()
    counts = Counter(_all_subjaxprs(jaxpr))
    repeated = [j for j, n in counts.items() if n > 1]
    hoisted = []
    for j in repeated:
        name = _unique(names, j.name or "fn")
        prefix = f"let {name} = "
        hoisted.append(f"{prefix}{_block(j, names, 0, len(prefix))} in\n")
        names.shared[id(j)] = name
    return "".join(hoisted) + _block(jaxpr, names, 0)


def _unique(names: _Names, wanted: str) -> str:
    taken = set(names.shared.values())
    wanted = wanted.strip("<>")
    return next(n for n in itertools.chain([wanted], (f"{wanted}{i}" for i in itertools.count(1))) if n not in taken)


def _all_subjaxprs(jaxpr: Jaxpr) -> Iterable[Jaxpr]:
    seen = set()
    stack = [jaxpr]
    while stack:
        for eqn in stack.pop().eqns:
            for sub in subjaxprs(eqn.params):
                yield sub
                if id(sub) not in seen:
                    seen.add(id(sub))
                    stack.append(sub)


def _block(jaxpr: Jaxpr, names: _Names, indent: int, prefix: int = 0) -> str:
    """A jaxpr in braces, on one line if that fits after `prefix` characters; further lines start at `indent`."""
    binder = lambda vs: "".join(f"{names[v]}:{v.aval.short()} " for v in vs).rstrip()  # noqa: E731
    constvars = binder(jaxpr.constvars)
    head = f"{{ lambda {constvars}; {binder(jaxpr.invars)}. let"
    used = _read_variables(jaxpr) | {v for v in jaxpr.outvars if isinstance(v, Var)}
    eqns = [_equation(e, names, indent + 4, used) for e in jaxpr.eqns]
    outs = [_atom(v, names) for v in jaxpr.outvars]
    result = f"({outs[0]},)" if len(outs) == 1 else f"({', '.join(outs)})"
    one_line = f"{head} {'; '.join(eqns)} in {result} }}"
    if "\n" not in one_line and len(one_line) + indent + prefix <= _WIDTH:
        return one_line
    pad = " " * indent
    body = "".join(f"{pad}    {e}\n" for e in eqns)
    return f"{head}\n{body}{pad}  in {result} }}"


def _read_variables(jaxpr: Jaxpr) -> set[Var]:
    return {v for e in jaxpr.eqns for v in e.invars if isinstance(v, Var)}


def _equation(eqn: JaxprEqn, names: _Names, indent: int, used: set[Var]) -> str:
    args = "".join(f" {_atom(v, names)}" for v in eqn.invars)
    outs = " ".join(f"{names[v] if v in used else '_'}:{v.aval.short()}" for v in eqn.outvars)
    head = f"{outs} = {eqn.primitive.name}" if outs else eqn.primitive.name
    if eqn.primitive.params_style.shares_names:
        (inner,) = subjaxprs(eqn.params)
        if id(inner) not in names.shared:
            names.adopt(inner.invars, eqn.invars)
            inner_read = _read_variables(inner)
            unused = {
                o for i, o in zip(inner.outvars, eqn.outvars, strict=True) if o not in used and i not in inner_read
            }
            names.adopt(inner.outvars, eqn.outvars, unused)
    shown = _shown_params(eqn)
    if not shown:
        return head + args
    params = [f"{k}={_param(v, names, indent + 2, len(k) + 1)}" for k, v in shown]
    one_line = f"{head}[{' '.join(params)}]{args}"
    if (
        not any("\n" in p for p in params)
        and len(one_line) + indent <= _WIDTH
        and not any("{ lambda" in p for p in params)
    ):
        return one_line
    pad = " " * indent
    return f"{head}[\n" + "".join(f"{pad}  {p}\n" for p in params) + f"{pad}]{args}"


def _shown_params(eqn: JaxprEqn) -> list[tuple[str, Any]]:
    """Params in alphabetical order, except as the primitive says."""
    style = eqn.primitive.params_style
    shown = sorted((k, v) for k, v in eqn.params.items() if not style.hidden(k, v))
    return sorted(shown, key=lambda item: item[0] != style.first)


def _atom(atom: Atom, names: _Names) -> str:
    if isinstance(atom, Var):
        return names[atom]
    value = np.asarray(atom.val)
    value = value.astype(np.float32) if atom.aval.dtype == dtypes.bfloat16 else value
    return f"{value.tolist()}:{atom.aval.short()}"


def _param(value: Any, names: _Names, indent: int, prefix: int = 0) -> str:
    if isinstance(value, ClosedJaxpr):
        value = value.jaxpr
    if isinstance(value, Jaxpr):
        return names.shared.get(id(value)) or _block(value, names, indent, prefix)
    if isinstance(value, tuple) and value and all(isinstance(v, (Jaxpr, ClosedJaxpr)) for v in value):
        inner = "\n".join(" " * (indent + 2) + _param(v, names, indent + 2) for v in value)
        return f"(\n{inner}\n{' ' * indent})"
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, ShapedArray):
        return value.short()
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return str(value)


def format_eqn(eqn: JaxprEqn) -> str:
    """Return one equation as text, its variables named from a."""
    return _equation(eqn, _Names(), 0, set(eqn.outvars))


_HTML = """<pre style="font-family:monospace;line-height:1.35;font-size:90%;text-align:left">{}</pre>"""
_PARTS = re.compile(
    r"(?P<kind>:[a-z]\w*\[[\d,]*\])|(?<== )(?P<primitive>\w+)|(?P<keyword>(?<=\{ )lambda|\blet\b|\bin(?= \())"
)
# Read well on a light and on a dark page.
_STYLED = {
    "kind": '<span style="opacity:.55">{}</span>',
    "primitive": '<b style="color:#2f81c9">{}</b>',
    "keyword": '<i style="opacity:.55">{}</i>',
}


def html(jaxpr: Jaxpr) -> str:
    """Return the jaxpr as HTML: primitives stand out, types and keywords step back."""
    text = html_escape.escape(format_jaxpr(jaxpr), quote=False)
    return _HTML.format(_PARTS.sub(lambda part: _STYLED[part.lastgroup or ""].format(part[0]), text))


# Jaxprs print themselves through this module, which is above the one that defines them.
_METHODS: dict[type, dict[str, Callable[[Any], str]]] = {
    Jaxpr: {"__repr__": format_jaxpr, "_repr_html_": html},
    ClosedJaxpr: {
        "__repr__": lambda closed: format_jaxpr(closed.jaxpr),
        "_repr_html_": lambda closed: html(closed.jaxpr),
    },
    JaxprEqn: {"__repr__": format_eqn},
    Literal: {"__repr__": lambda literal: _atom(literal, _Names())},
}
for _class, _methods in _METHODS.items():
    for _attribute, _method in _methods.items():
        setattr(_class, _attribute, _method)
