"""Write docs/coverage.md: the public names of the installed JAX that funcgrad has.

Usage: python tools/make_coverage.py [--check]

With --check, the page is compared and not written; the exit status is 1 if it differs.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import textwrap
import types
from pathlib import Path

import jax

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"

HEAD = f"""\
# Coverage

This page lists, for each module of JAX {jax.__version__}, how many of its public names funcgrad has, and which are
absent. Supported functions have the names, arguments and values of JAX, with the differences listed in
[jax-users.md](jax-users.md).

`tools/make_coverage.py` generates this page from the installed versions of both libraries.

| module | supported | |
|---|---|---|
"""

MODULES = [
    "jax",
    "jax.numpy",
    "jax.numpy.linalg",
    "jax.numpy.fft",
    "jax.lax",
    "jax.lax.linalg",
    "jax.random",
    "jax.nn",
    "jax.nn.initializers",
    "jax.scipy.special",
    "jax.scipy.linalg",
    "jax.scipy.fft",
    "jax.scipy.signal",
    "jax.scipy.stats",
    "jax.scipy.ndimage",
    "jax.scipy.interpolate",
    "jax.scipy.integrate",
    "jax.scipy.optimize",
    "jax.scipy.cluster.vq",
    "jax.scipy.sparse.linalg",
    "jax.scipy.spatial.transform",
    "jax.tree",
    "jax.tree_util",
    "jax.flatten_util",
    "jax.ops",
    "jax.image",
    "jax.dtypes",
    "jax.errors",
    "jax.debug",
    "jax.custom_batching",
    "jax.custom_derivatives",
    "jax.ad_checkpoint",
    "jax.stages",
    "jax.ref",
    "jax.test_util",
    "jax.experimental.checkify",
    "jax.experimental.jet",
    "jax.experimental.ode",
    "jax.example_libraries.optimizers",
    "jax.example_libraries.stax",
]

# The public names of modules that also expose the names they import.
PRIVATE = {"jax.experimental.jet": {"jet"}, "jax.experimental.ode": {"odeint"}}


def public_names(module: types.ModuleType) -> list[str]:
    """Return the public names of a module of JAX, without primitives and names of other libraries."""
    own = PRIVATE.get(module.__name__) or getattr(module, "__all__", None) or dir(module)
    return sorted(name for name in own if not name.startswith("_") and _is_public(module, name))


def _is_public(module: types.ModuleType, name: str) -> bool:
    value = getattr(module, name)
    if isinstance(value, types.ModuleType):  # distributions are modules; modules with their own row do not count
        return value.__name__ == f"{module.__name__}.{name}" and value.__name__ not in MODULES
    if name.endswith("_p") or getattr(value, "__name__", "") in ("safe_map", "safe_zip"):
        return False
    home = getattr(value, "__module__", None) or "jax"
    return home.split(".")[0] in ("jax", "jaxlib", "numpy", "ml_dtypes", "builtins")


def ours(module: str) -> types.ModuleType | None:
    """Return the corresponding module of funcgrad, or None."""
    try:
        return importlib.import_module(module.replace("jax", "funcgrad", 1))
    except ModuleNotFoundError:
        return None


def page() -> str:
    """Return the page."""
    rows, lists = [], []
    for name in MODULES:
        theirs, have = public_names(importlib.import_module(name)), ours(name)
        absent = [n for n in theirs if not hasattr(have, n)]
        count = f"{len(theirs) - len(absent)} of {len(theirs)}"
        anchor = name.replace(".", "")
        rows.append(f"| `{name}` | {count if have else 'no module'} | {f'[absent](#{anchor})' if absent else 'all'} |")
        if absent:
            shown = textwrap.fill(" ".join(f"`{n}`" for n in absent), 120, break_long_words=False)
            lists.append(f"## {name}\n\nAbsent:\n{shown}\n")
    return HEAD + "\n".join(rows) + "\n\n" + "\n".join(lists)


def main(arguments: list[str]) -> int:
    """Write the page, or compare it with the file."""
    text = page()
    if arguments != ["--check"]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    lines = written.splitlines(), text.splitlines()
    difference = list(difflib.unified_diff(*lines, "docs/coverage.md", "the installed libraries", lineterm=""))
    print("\n".join(difference))
    return int(bool(difference))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
