"""Every option of the configuration: what it changes, where it comes from, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as np_
from funcgrad.compiler import pipeline
from funcgrad.compiler.targets.llvm import cache, runtime
from funcgrad.config import _OPTIONS, config
from funcgrad.core.jaxprs import Jaxpr, Var
from funcgrad.errors import ArgumentError, JaxprError, ShapeError, TypePromotionError


@pytest.fixture
def updates():
    """Restore every option after the test."""
    before = {name: getattr(config, name) for name in _OPTIONS}
    yield
    for name, value in before.items():
        config.update(name, value)


def test_options_are_read_from_the_environment():
    given = {
        "FUNCGRAD_ENABLE_X64": "1",
        "FUNCGRAD_NUM_THREADS": "3",
        "FUNCGRAD_NUMPY_RANK_PROMOTION": "raise",
        "FUNCGRAD_ENABLE_CHECKS": "",
    }
    code = (
        "import funcgrad as fg; from funcgrad.compiler.targets.llvm import runtime; c = fg.config;"
        "print(c.enable_x64, c.num_threads, runtime.num_threads(), c.numpy_rank_promotion, c.enable_checks,"
        " fg.numpy.ones(1).dtype)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "3", "3", "raise", "False", "float64"]


def test_an_override_is_of_its_thread_and_ends(updates):
    seen = []
    with config.override("jax_enable_x64", True):
        assert config.enable_x64
        thread = threading.Thread(target=lambda: seen.append(config.enable_x64))
        thread.start()
        thread.join()
        with config.override("enable_x64", False):
            assert not config.enable_x64
        assert config.enable_x64
    assert seen == [False] and not config.enable_x64 and config.thread_key == ()
    config.enable_x64 = True  # as update does
    thread = threading.Thread(target=lambda: seen.append(config.enable_x64))
    thread.start()
    thread.join()
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("numpy_rank_promotion", "never", "'allow' or 'warn' or 'raise'"),
        ("numpy_dtype_promotion", "loose", "'standard' or 'strict'"),
        ("num_threads", -1, "0 .all processors. to 65535"),
        ("num_threads", 2.0, "0 .all processors. to 65535"),
        ("compilation_cache_dir", 3, "a path"),
        ("default_matmul_precision", 3, "a name"),
    ],
)
def test_wrong_values_are_refused(name, value, fix):
    before = getattr(config, name)
    for change in (config.update, lambda n, v: config.override(n, v).__enter__()):
        with pytest.raises(ArgumentError, match=f"config.{name}: got {value!r}\n(.|\n)*fix: pass {fix}"):
            change(name, value)
    assert getattr(config, name) == before


def test_precision_of_products_is_accepted(updates):
    config.update("jax_default_matmul_precision", "bfloat16")
    x = np.full((2, 2), 1 + 2.0**-20, np.float32)
    np.testing.assert_array_equal(np.asarray(np_.matmul(x, np.eye(2, dtype=np.float32))), x)


def test_jitted_functions_follow_the_options_that_tracing_depends_on():
    f = fg.jit(lambda x, y: x + y)
    x, rows, half = np_.ones(3), np_.ones((2, 3)), np_.ones(3, np_.float16)
    f(x, rows), f(x, half)
    with config.override("numpy_rank_promotion", "raise"), pytest.raises(ShapeError, match="different ranks"):
        f(x, rows)
    with config.override("numpy_dtype_promotion", "strict"), pytest.raises(TypePromotionError, match="strict"):
        f(x, half)
    before = f.cache_info()
    f(x, rows), f(x, half)
    assert f.cache_info().traces == before.traces


def test_the_number_of_threads_changes_programs_and_results_stay(updates):
    x = np_.arange(300_000.0)
    f = fg.jit(lambda v: np_.sum(np_.sin(v)))
    results, programs = [], []
    for count in (1, 3, 1):
        config.update("num_threads", count)
        assert runtime.num_threads() == count
        results.append(float(f(x)))
        closed = f.trace(x).jaxpr
        programs.append(pipeline.executable(closed, "f"))
        assert programs[-1]._run.__self__.threads == count
        assert pipeline.executable(closed, "f") is programs[-1]
    assert len(set(results)) == 1
    assert f.cache_info().traces == 2
    config.update("num_threads", 0)
    assert runtime.num_threads() == runtime.available_processors()
    with config.override("num_threads", 1):
        assert runtime.num_threads() == 1


def test_the_cache_moves_at_run_time(updates, tmp_path, monkeypatch):
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path / "environment"))
    assert cache.directory() == tmp_path / "environment"
    config.update("jax_compilation_cache_dir", tmp_path / "chosen")
    assert cache.directory() == tmp_path / "chosen"
    cache.put("a" * 64, b"object")
    assert [p.name for p in (tmp_path / "chosen").iterdir()] == ["a" * 64]
    config.update("compilation_cache_dir", None)
    assert cache.directory() == tmp_path / "environment"


def test_disable_jit_runs_the_function_itself():
    seen = []
    f = fg.jit(lambda x: seen.append(type(x).__name__) or x * 2)
    with fg.disable_jit():
        assert float(f(np_.float32(2.0))) == 4
    assert seen == ["Array"]


def test_compilations_and_misses_are_logged(updates, capsys):
    f = fg.jit(lambda x: x * 2 - 7)
    f(np_.ones(3))
    assert capsys.readouterr().err == ""
    config.update("explain_cache_misses", True)
    f(np_.ones(4))
    assert "argument x has type f32[4]; seen before: f32[3]" in capsys.readouterr().err
    config.update("explain_cache_misses", False)
    config.update("log_compiles", True)
    f(np_.ones(5))
    text = capsys.readouterr().err
    assert "compiled 2 equations to 1 step in" in text and "kernels: 1 used before" in text


def test_checks_are_enabled_and_find_a_broken_pass(monkeypatch):
    assert config.enable_checks

    def forget(closed):
        jaxpr = closed.jaxpr
        unbound = Jaxpr([], jaxpr.invars, jaxpr.eqns, [Var(jaxpr.outvars[0].aval)])
        return type(closed)(unbound, [])

    closed = fg.make_jaxpr(lambda x: x * 2)(np_.ones(3))
    monkeypatch.setattr(pipeline, "simplify", forget)
    with pytest.raises(JaxprError, match="not bound"):
        pipeline.as_text(closed, "f", "groups")
    with config.override("enable_checks", False):
        pipeline.as_text(closed, "f", "simplified")
