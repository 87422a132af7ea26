"""Settings of the whole suite: hypothesis profiles, the kernel cache, checks of passes, optional dependencies."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from types import ModuleType

import hypothesis
import pytest

_common = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow], "print_blob": True}
_seed = os.environ.get("FUNCGRAD_FUZZ_SEED")
_examples = os.environ.get("FUNCGRAD_FUZZ_EXAMPLES")

# Every run draws the same examples, so that a failure is due to the change at hand. Longer runs draw others:
# FUNCGRAD_FUZZ_SEED=7 FUNCGRAD_FUZZ_EXAMPLES=5000 python -m pytest tests/test_tree.py
hypothesis.settings.register_profile("ci", derandomize=True, max_examples=50, database=None, **_common)
hypothesis.settings.register_profile("fuzz", derandomize=_seed is None, max_examples=int(_examples or 1000), **_common)
hypothesis.settings.load_profile("fuzz" if _seed or _examples else "ci")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if _seed:
        config.option.hypothesis_seed = _seed
    if not hasattr(config, "workerinput"):
        # Not a fixture: collecting a test may compile already, and the workers of xdist inherit the variables.
        directory = tempfile.TemporaryDirectory(prefix="funcgrad-tests-", ignore_cleanup_errors=True)
        config.add_cleanup(directory.cleanup)
        os.environ["FUNCGRAD_CACHE_DIR"] = directory.name
        os.environ["FUNCGRAD_ENABLE_CHECKS"] = "1"
        os.environ["FUNCGRAD_TRACEBACK_FILTERING"] = "off"


# Marker -> the optional module that its tests need. .ci/run installs all but PyTorch and runs them.
_NEEDS = {"oracle": "jax", "torch": "torch", "cuda": "numba_cuda"}


@pytest.fixture(scope="session")
def jax() -> ModuleType:
    """JAX, for tests that are marked as comparisons with it."""
    return importlib.import_module("jax")


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch, for tests that are marked as comparisons with it. It runs on one thread."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {marker: module for marker, module in _NEEDS.items() if importlib.util.find_spec(module) is None}
    for item in items:
        for marker, module in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{module} is not installed"))
