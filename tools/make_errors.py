"""Write docs/errors.md: each error class, when it is raised, and an example of its message.

Usage: python tools/make_errors.py [--check]

The messages are those of the examples below, each of which runs as a file example.py. With --check, the page is
compared and not written; the exit status is 1 if it differs, or if a class has no example.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import inspect
import re
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.errors import FuncgradError

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"

HEAD = """\
# Errors

Bad input raises one of the classes of `funcgrad.errors`, which all derive from `FuncgradError`. Each also derives from
the builtin exception that a user of NumPy or JAX would catch. A message names the operation, the values, your line of
code with the active transforms, and a remedy. The parts are also attributes: `error.summary`, `error.location`,
`error.fix`.

`tools/make_errors.py` generates this page by running the examples. Each is a file `example.py` that starts with these
three lines and an empty one:

```py
import numpy as np
import funcgrad as fg
import funcgrad.numpy as fnp
```
"""


class Example(NamedTuple):
    """A case in which an error is raised, and code that raises it."""

    when: str
    code: str


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "ShapeError": (
        Example("Operands that have to have one shape, or to broadcast, do not.", "fnp.ones(3) + fnp.ones((2, 2))"),
        Example(
            "The axes that a product sums over differ.",
            """
            def model(w, x):
                return w @ x


            fg.jit(model)(fnp.ones((2, 3)), fnp.ones((2, 4)))
            """,
        ),
        Example("A new shape has another number of elements.", "fnp.arange(6).reshape(4, 2)"),
    ),
    "DTypeError": (
        Example("An operation does not take operands of a dtype.", "fg.lax.sin(fnp.arange(3))"),
        Example("Operands of `lax` have to have one dtype.", "fg.lax.add(np.float32(1), np.int32(1))"),
        Example("A dtype has no such name.", 'fnp.zeros(3, "float33")'),
    ),
    "TypePromotionError": (
        Example(
            "Dtypes have no common one: with strict promotion, or of the kinds that never promote by themselves.",
            """
            with fg.config.override("numpy_dtype_promotion", "strict"):
                fnp.ones(3) + fnp.arange(3)
            """,
        ),
    ),
    "ArgumentError": (
        Example("An argument that is not an array is wrong: an axis, a count, a mode.", "fnp.sum(fnp.ones(3), axis=1)"),
        Example("Something is passed as an array that is none.", 'fnp.add(fnp.ones(3), "one")'),
        Example("A function to be transformed does not return what it should.", 'fg.jit(lambda x: "text")(1.0)'),
    ),
    "IntegerOverflowError": (
        Example("A Python integer is used with arrays, and is too large for their integers.", "fnp.arange(3) + 2**40"),
    ),
    "UnsupportedError": (Example("An option of NumPy is not there.", 'fnp.pad(fnp.ones(3), 1, mode="unknown")'),),
    "IndexingError": (
        Example("An index is of a kind that cannot be one.", "fnp.ones(3)[1.5]"),
        Example("There are more indices than dimensions.", "fnp.ones(3)[0, 0]"),
    ),
    "NotDifferentiableError": (
        Example("The function to differentiate returns no single number.", "fg.grad(lambda x: 2 * x)(fnp.ones(3))"),
        Example("The point is no float.", "fg.grad(lambda x: x * x)(3)"),
    ),
    "NonFiniteError": (
        Example(
            "An operation of a jitted function makes a NaN; the message has the first one, and what it was made of.",
            """
            @fg.jit
            def entropy(p):
                return -fnp.sum(p * fnp.log(p))


            with fg.debug_nans():
                entropy(fnp.array([0.5, 0.5, 0.0]))
            """,
        ),
        Example(
            "A loop says in which iteration.",
            """
            def step(total, x):
                return total + 1 / x, None


            with fg.debug_infs():
                fg.lax.scan(step, 0.0, fnp.array([2.0, 1.0, 0.0]))
            """,
        ),
    ),
    "MissingRuleError": (
        Example(
            "An operation has no rule for what a transform asks of it.",
            """
            tanh = fg.primitive("my_tanh", shape=lambda x: x, evaluate=np.tanh)
            fg.grad(tanh)(1.0)
            """,
        ),
    ),
    "ConcretizationError": (
        Example(
            "Python asks for the value of an array that is not known while its function is traced.",
            """
            @fg.jit
            def relu(x):
                return x if x > 0 else 0.0


            relu(1.0)
            """,
        ),
        Example(
            "A number is made of a traced value that has a derivative; the derivative would come out wrong.",
            "import math\n\nfg.grad(lambda x: x * math.exp(x))(1.0)",
        ),
    ),
    "NonConcreteBooleanIndexError": (Example("The mask is traced.", "fg.jit(lambda x: x[x > 0])(fnp.ones(3))"),),
    "LeakedTracerError": (
        Example(
            "A value that stood for an array within a transform is used after it.",
            """
            kept = []
            fg.jit(lambda x: kept.append(x) or x)(1.0)
            kept[0] + 1
            """,
        ),
    ),
    "StaticArgumentError": (
        Example("A static argument does not hash.", "fg.jit(lambda x, n: x * n[0], static_argnums=1)(1.0, [2])"),
        Example(
            "Static arguments are named that the function does not have.",
            'fg.jit(lambda x, n: x * n, static_argnames="m")',
        ),
    ),
    "BatchingError": (
        Example("Arguments of vmap have different numbers of lanes.", "fg.vmap(fnp.add)(fnp.ones(3), fnp.ones(2))"),
        Example("`in_axes` does not fit the arguments.", "fg.vmap(fnp.sin, in_axes=1)(fnp.ones(3))"),
    ),
    "UnboundAxisError": (
        Example(
            "A collective names an axis that no vmap around it has.",
            """
            def share(x):
                return x / fg.lax.psum(x, "batch")


            fg.vmap(share, axis_name="rows")(fnp.ones(3))
            """,
        ),
    ),
    "DeletedArrayError": (
        Example(
            "An array is used after it was donated.",
            """
            x = fnp.ones(3)
            fg.jit(lambda x: x + 1, donate_argnums=0)(x)
            x + 1
            """,
        ),
    ),
    "AllocationError": (Example("There is not so much memory.", "fnp.exp(fnp.broadcast_to(1.0, (1 << 22, 1 << 22)))"),),
    "DependencyError": (
        Example(
            "A part of the library needs a package that is not installed (here, as if numba-cuda were not).",
            'fg.jit(fnp.sin).lower(1.0).as_text("ptx")',
        ),
    ),
    "WorkerError": (
        Example(
            "A worker process of a DataLoader fails.",
            """
            class Records(fg.data.Dataset):
                def __len__(self):
                    return 4

                def __getitem__(self, index):
                    return {"x": 1 / (3 - index)}


            list(fg.data.DataLoader(Records(), 1, workers=1))
            """,
        ),
    ),
    "CheckpointError": (
        Example(
            "A checkpoint does not have the structure to restore.",
            """
            fg.train.save("model.safetensors", {"kernel": fnp.ones((3, 2)), "bias": fnp.ones(2)})
            fg.train.load("model.safetensors", like={"weight": fnp.ones((3, 2)), "bias": fnp.ones(2)})
            """,
        ),
        Example(
            "A checkpoint is damaged.",
            """
            with open("model.safetensors", "r+b") as file:
                file.truncate(400)
            fg.train.load("model.safetensors")
            """,
        ),
    ),
    "JaxprError": (
        Example(
            "A jaxpr is not well formed: a mistake in a transform, or in code that makes jaxprs.",
            """
            from funcgrad.core.checking import check_jaxpr

            closed = fg.make_jaxpr(fnp.sin)(1.0)
            check_jaxpr(closed.jaxpr.replace(eqns=[]))
            """,
        ),
    ),
}


def classes() -> list[type[FuncgradError]]:
    """Return the error classes in order of declaration."""
    found = [c for c in vars(fg.errors).values() if inspect.isclass(c) and issubclass(c, FuncgradError)]
    return [c for c in dict.fromkeys(found) if c is not FuncgradError]  # some have a second name


@contextlib.contextmanager
def _in_a_folder_of_its_own() -> Iterator[None]:
    """Run the examples in a temporary folder, where they write files."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


@contextlib.contextmanager
def _without_optional_packages() -> Iterator[None]:
    """Hide optional packages, so that the page does not depend on what is installed."""
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *args: None if name == "numba_cuda" else find(name, *args)
    try:
        yield
    finally:
        importlib.util.find_spec = find


def message_of(example: Example, kind: type[FuncgradError]) -> str:
    """Run an example and return the message of the error that it raises."""
    code = compile("\n" * 4 + textwrap.dedent(example.code).strip() + "\n", "example.py", "exec")
    try:
        with _without_optional_packages(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(code, {"__name__": "__main__", "np": np, "fg": fg, "fnp": fnp})
    except FuncgradError as error:
        if type(error) is not kind:
            raise SystemExit(f"an example of {kind.__name__} raised {type(error).__name__}: {error}") from error
        return re.sub(r" at 0x[0-9a-f]+", "", str(error))
    raise SystemExit(f"an example of {kind.__name__} raised nothing: {example.code}")


def section(kind: type[FuncgradError]) -> str:
    """Return the section of the page on a class."""
    examples = EXAMPLES.get(kind.__name__)
    if not examples:
        raise SystemExit(f"{kind.__name__} has no example in {Path(__file__).name}")
    lines = [f"## {kind.__name__}\n", textwrap.fill(f"{inspect.getdoc(kind)}{_also(kind)}", 120)]
    for example in examples:
        code = textwrap.dedent(example.code).strip()
        message = f"{kind.__name__}: {message_of(example, kind)}"
        lines += [f"\n{example.when}\n", f"```py\n{code}\n```\n", f"```text\n{message}\n```"]
    return "\n".join(lines) + "\n"


def _also(kind: type[FuncgradError]) -> str:
    """Describe the builtin exceptions that the class derives from."""
    builtins = [c for c in kind.__mro__ if c.__module__ == "builtins" and issubclass(c, Exception)]
    names = [f"`{c.__name__}`" for c in builtins if not any(issubclass(d, c) for d in builtins if d is not c)]
    return f" Caught as {' and '.join(names)} too." if names != ["`Exception`"] else ""


def page() -> str:
    """Return the page."""
    with _in_a_folder_of_its_own():
        return "\n".join([HEAD, *map(section, classes())])


def main(arguments: list[str]) -> int:
    """Write the page, or compare it with the file."""
    text = page()
    if arguments != ["--check"]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    lines = written.splitlines(), text.splitlines()
    difference = list(difflib.unified_diff(*lines, "docs/errors.md", "what the examples say now", lineterm=""))
    print("\n".join(difference))
    return int(bool(difference))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
