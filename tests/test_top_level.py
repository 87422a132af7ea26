"""Names at the top of the package that are small, or accepted for programs written for JAX."""

import json
from functools import partial

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.config import WITHOUT_EFFECT


def test_options_of_jax_are_accepted():
    for name in WITHOUT_EFFECT:
        fg.config.update(f"jax_{name}", "any value")
        with getattr(fg, name)("any value"):
            assert jnp.ones(1) == 1
    assert fg.random.key(0, impl="rbg") == fg.random.key(0)


def test_one_process():
    assert (fg.process_index(), fg.process_count(), fg.process_indices()) == (0, 1, [0])
    assert (fg.host_id(), fg.host_count(), fg.host_ids()) == (0, 1, [0])


def test_the_environment_prints(capsys):
    text = fg.print_environment_info(return_string=True)
    assert fg.version.__version__ == fg.__version__ in text and np.__version__ in text
    fg.print_environment_info()
    assert capsys.readouterr().out == text + "\n"


def test_forward_and_backward_passes_may_be_jitted():
    fwd, bwd = map(fg.jit, fg.fwd_and_bwd(lambda x, w: jnp.sin(x @ w), (0, 1)))
    x, w = np.float32([[1, 2]]), np.float32([[3], [4]])
    out, residuals = fwd(x, w)
    expected, pullback = fg.vjp(lambda x, w: jnp.sin(x @ w), x, w)
    np.testing.assert_array_equal(out, expected)
    for mine, theirs in zip(bwd(residuals, jnp.ones((1, 1))), pullback(jnp.ones((1, 1))), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    fwd, bwd = fg.fwd_and_bwd(lambda x, y: (x * y, "aux"), -1, has_aux=True)
    out, residuals, aux = fwd(2.0, 3.0)
    assert (out, aux, bwd(residuals, 1.0)) == (6.0, "aux", 2.0)


def test_annotations_are_recorded(tmp_path):
    with fg.profiler.TraceAnnotation("before"):
        pass
    with fg.profiler.trace(tmp_path):
        with fg.profiler.StepTraceAnnotation("train", step_num=3):
            fg.profiler.annotate_function(lambda: None, name="inner")()
        fg.profiler.TraceAnnotation("decorated")(lambda: None)()
    events = json.loads((tmp_path / "funcgrad.trace.json").read_text())["traceEvents"]
    assert [e["name"] for e in events] == ["inner", "train", "decorated"] and events[1]["args"] == {"step_num": 3}
    assert events[1]["dur"] >= events[0]["dur"] >= 0
    with pytest.raises(ValueError, match="no trace is being recorded"):
        fg.profiler.stop_trace()


def test_derivatives_given_by_functions_are_checked():
    f, x = jnp.sin, (np.float32([0.3, 2.0]),)
    fg.test_util.check_grads(f, x, order=2)
    fg.test_util.check_jvp(f, partial(fg.jvp, f), x)
    fg.test_util.check_vjp(f, partial(fg.vjp, f), x)
    with pytest.raises(AssertionError, match="finite difference"):
        fg.test_util.check_jvp(f, lambda p, t: (f(*p), t[0]), x)
    with pytest.raises(AssertionError, match="finite differences"):
        fg.test_util.check_vjp(f, lambda x: (f(x), lambda ct: (ct,)), x)


def test_types_for_annotations():
    assert isinstance(jnp.ones(2), fg.typing.ArrayLike) and isinstance(1.5, fg.typing.ArrayLike)
    assert not isinstance("text", fg.typing.ArrayLike)
