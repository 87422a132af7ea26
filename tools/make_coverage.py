"""Write docs/coverage.md: the public names of the installed JAX that funcgrad has, and why it lacks the others.

Usage: python tools/make_coverage.py [--check]

With --check, the page is compared and not written; the exit status is 1 if it differs. Every absent name needs a reason
in `ABSENT`, by itself or with its module.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import types
from pathlib import Path

import jax

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"

HEAD = f"""\
# Coverage

This page lists, for each module of JAX {jax.__version__}, how many of its public names funcgrad has, which are absent,
and why. Supported functions have the names, arguments and values of JAX, with the differences listed below and in
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
    "jax.sharding",
    "jax.dlpack",
    "jax.profiler",
    "jax.interpreters.ad",
    "jax.interpreters.batching",
    "jax.extend.core",
    "jax.experimental.checkify",
    "jax.experimental.jet",
    "jax.experimental.ode",
    "jax.experimental.sparse",
    "jax.example_libraries.optimizers",
    "jax.example_libraries.stax",
]

# The public names of modules that also expose the names they import.
PRIVATE = {"jax.experimental.jet": {"jet"}, "jax.experimental.ode": {"odeint"}}


NO_CLUSTER = "there is one device in one process"
INTERNAL = "internal to JAX"
SMALL_TYPES = "no kernels compute with types of fewer than 16 bits but int8 and uint8"
NOT_WRITTEN = "not written yet"
OLD_SPARSE = "formats without batches, which BCOO and BCSR replace"
SPARSE_FUNCTIONS = ("fromdense", "matmat", "matvec", "todense")

# Why names are absent: for a module, then for names of it.
ABSENT: dict[str, str] = {
    **dict.fromkeys(("jax.scipy.special", "jax.scipy.stats", "jax.scipy.optimize"), NOT_WRITTEN),
    **dict.fromkeys(("jax.scipy.sparse.linalg", "jax.experimental.ode", "jax.lax.linalg"), NOT_WRITTEN),
    **dict.fromkeys(("jax.ad", "jax.api_util", "jax.lib", "jax.make_user_context", "jax.monitoring"), INTERNAL),
    **dict.fromkeys(("jax.no_execution", "jax.no_tracing"), "asserts properties of JAX's own caches"),
    "jax.distributed": NO_CLUSTER,
    "jax.ds": "an index of Pallas kernels; use slice, or lax.dynamic_slice",
    "jax.export": NOT_WRITTEN,
    "jax.ffi": "funcgrad.primitive and funcgrad.njit_op call native code",
    "jax.memory": "there is one kind of memory",
    **dict.fromkeys((f"jax.numpy.{n}" for n in ("int1", "int2", "int4", "uint1", "uint2", "uint4")), SMALL_TYPES),
    **dict.fromkeys((f"jax.numpy.float{n}" for n in ("4_e2m1fn", "6_e2m3fn", "6_e3m2fn")), SMALL_TYPES),
    **dict.fromkeys((f"jax.numpy.float8_{n}" for n in ("e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn")), SMALL_TYPES),
    **dict.fromkeys((f"jax.numpy.float8_{n}" for n in ("e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")), SMALL_TYPES),
    **dict.fromkeys(
        ("jax.lax.AccuracyMode", "jax.lax.Tolerance"), "functions have one implementation each, with error bounds"
    ),
    **dict.fromkeys(("jax.lax.RaggedDotDimensionNumbers", "jax.lax.ragged_dot_general"), "use lax.ragged_dot"),
    **dict.fromkeys(("jax.lax.RandomAlgorithm", "jax.lax.rng_bit_generator"), "its bits depend on the platform"),
    **dict.fromkeys((f"jax.lax.{n}" for n in ("pcast", "precv", "psend", "ragged_all_to_all")), NO_CLUSTER),
    "jax.lax.dce_sink": "for tests of XLA",
    "jax.lax.rng_uniform": "it has a hidden state",
    "jax.lax.scatter_apply": "use x.at[i].apply(f)",
    **dict.fromkeys(
        ("jax.nn.get_scaled_dot_general_config", "jax.nn.scaled_dot_general"), "quantizes to 8-bit types of GPUs"
    ),
    "jax.errors.InconclusiveDimensionOperation": "there are no symbolic sizes",
    "jax.errors.KeyReuseError": "the reuse of keys is not checked; debug_key_reuse is accepted",
    **dict.fromkeys(("jax.debug.DebugEffect", "jax.debug.OrderedDebugEffect"), "effects are properties of primitives"),
    "jax.ref.AbstractRef": "Refs have the types of their contents",
    "jax.sharding": NO_CLUSTER,
    "jax.profiler": "profiles of XLA's programs; use a profiler of the system",
    "jax.interpreters.ad": INTERNAL,
    "jax.interpreters.batching": INTERNAL,
    "jax.extend.core": INTERNAL,
    "jax.example_libraries.optimizers": INTERNAL,
    "jax.experimental.sparse": NOT_WRITTEN,
    **dict.fromkeys(
        (
            f"jax.experimental.sparse.{n}"
            for n in ("CuSparseEfficiencyWarning", "SparseTracer", "ad", "api", "transform", "util")
        ),
        INTERNAL,
    ),
    **dict.fromkeys((f"jax.experimental.sparse.{n}" for n in ("coo", "csr", "COO", "CSC", "CSR")), OLD_SPARSE),
    **dict.fromkeys((f"jax.experimental.sparse.coo_{n}" for n in SPARSE_FUNCTIONS), OLD_SPARSE),
    **dict.fromkeys((f"jax.experimental.sparse.csr_{n}" for n in SPARSE_FUNCTIONS), OLD_SPARSE),
}

# Supported names that differ from JAX on purpose, and how.
DIFFERENT = {
    "jax.pmap": "the mapped axis has size 1",
    "jax.shard_map": "each part is the whole array; collectives see axes of size 1",
    "jax.device_put": "returns the array: there is one device",
    "jax.transfer_guard": "accepted without effect, like the other options in `config.WITHOUT_EFFECT`",
    "jax.default_matmul_precision": "accepted; products have full precision",
    "jax.profiler.start_trace": "records annotations, in one JSON file",
    "jax.random.key": "`impl='rbg'` and `'unsafe_rbg'` are accepted; the bits are those of threefry",
    "jax.numpy.full": "Python integers that do not fit raise",
    "jax.lax.after_all": "effects are in the order of the program, with or without tokens",
    "jax.extend.core.Primitive": "the function of `def_impl` runs in compiled programs too",
}


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


def reason(module: str, name: str) -> str:
    """Return why a name is absent; raise SystemExit if nobody knows."""
    found = ABSENT.get(f"{module}.{name}") or ABSENT.get(module)
    if found is None:
        raise SystemExit(f"{module}.{name} is absent without a reason: add it to funcgrad, or the reason to ABSENT")
    return found


def table_of_absent(module: str, absent: list[str]) -> str:
    """Return the section of a module, its absent names by reason."""
    by_reason: dict[str, list[str]] = {}
    for name in absent:
        by_reason.setdefault(reason(module, name), []).append(name)
    rows = [f"| {' '.join(f'`{n}`' for n in names)} | {why} |" for why, names in by_reason.items()]
    return "\n".join([f"## {module}", "", "| absent | why |", "|---|---|", *rows, ""])


def page() -> str:
    """Return the page."""
    rows, lists, found = [], [], set()
    for name in MODULES:
        theirs, have = public_names(importlib.import_module(name)), ours(name)
        absent = [n for n in theirs if not hasattr(have, n)]
        found |= {f"{name}.{n}" for n in absent}
        count = f"{len(theirs) - len(absent)} of {len(theirs)}"
        anchor = name.replace(".", "")
        rows.append(f"| `{name}` | {count if have else 'no module'} | {f'[absent](#{anchor})' if absent else 'all'} |")
        if absent:
            lists.append(table_of_absent(name, absent))
    stale = [name for name in ABSENT if name not in MODULES and name not in found]
    if stale:
        raise SystemExit(f"not absent, so ABSENT needs no reason for them: {', '.join(stale)}")
    different = [f"| `{name}` | {how} |" for name, how in DIFFERENT.items()]
    section = ["## Different on purpose", "", "| name | how |", "|---|---|", *different, ""]
    return HEAD + "\n".join(rows) + "\n\n" + "\n".join(section) + "\n" + "\n".join(lists)


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
