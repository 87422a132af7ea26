"""scipy.special: errors in ULP against mpmath, values of SciPy and JAX, derivatives, limits, errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import scipy.special as oracle
from compiler.program.test_no_host_calls import of_function
from paths import ROOT

import funcgrad as fg
import funcgrad.numpy as jnp
import funcgrad.scipy.special as special
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, DTypeError, FuncgradError
from funcgrad.testing import assert_close, check_jit, check_vmap

RNG = np.random.default_rng(7)


def spread(low: float, high: float, count: int = 5) -> np.ndarray:
    return 10.0 ** RNG.uniform(low, high, count)


def uniform(*limits: float, count: int = 5) -> np.ndarray:
    return np.concatenate([RNG.uniform(*pair, count) for pair in zip(limits[:-1], limits[1:], strict=True)])


POSITIVE = np.concatenate([spread(-6, 3), uniform(0, 1, 2, 4, 6, 12, 24, 50)])
REAL = np.concatenate([POSITIVE, -POSITIVE])


def owens_t(h: mp.mpf, a: mp.mpf) -> mp.mpf:
    end = mp.linspace(0, a, 5)
    return mp.quad(lambda t: mp.exp(-h * h * (1 + t * t) / 2) / (1 + t * t), end) / (2 * mp.pi)


def ndtri(p: mp.mpf) -> mp.mpf:
    q = min(p, 1 - p)
    start = mp.sqrt(-2 * mp.log(q) - 1) if q < 0.2 else mp.mpf(0.5)
    root = mp.findroot(lambda y: mp.log(mp.erfc(y / mp.sqrt(2)) / 2) - mp.log(q), start)
    return root if p > q else -root


def log_ndtr(x: mp.mpf) -> mp.mpf:
    return mp.log(mp.erfc(-x / mp.sqrt(2)) / 2) if x < 3 else mp.log1p(-mp.erfc(x / mp.sqrt(2)) / 2)


def ei(x: mp.mpf) -> mp.mpf:
    return mp.ei(x) if x > 0 else -mp.expint(1, -x)


ORDERS = RNG.integers(1, 60, 10).astype(float)
# name: (mpmath's function, points, bound for float64). Results in float32 are rounded from float64.
ACCURACY: dict[str, tuple[Callable[..., Any], list[np.ndarray], float]] = {
    "betaln": (lambda a, b: mp.log(mp.beta(a, b)), [POSITIVE, np.roll(POSITIVE, 9)], 6),
    "dawsn": (lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x), [REAL], 2),
    "erfcx": (lambda x: mp.exp(x * x) * mp.erfc(x), [np.concatenate([POSITIVE, uniform(-25, 0, 5)])], 4),
    "exp1": (lambda x: mp.expint(1, x), [np.concatenate([spread(-9, 0), uniform(0, 1, 2, 20, 600)])], 6),
    "expi": (ei, [np.concatenate([uniform(-20, 0, 0.372, 0.373, 6, 12, 24, 100, 700), spread(-9, 0)])], 4),
    "expn": (lambda n, x: mp.expint(int(n), x), [ORDERS, np.concatenate([spread(-5, 2), uniform(0, 5)])], 40),
    "factorial": (mp.factorial, [np.arange(170.0)[::5]], 3),
    "gamma": (mp.gamma, [uniform(-160, -5, -0.5, 0.5, 3, 8, 170)], 4),
    "hyp1f1": (mp.hyp1f1, [uniform(0, 4, 8), uniform(0.5, 4, 8), uniform(-20, 20, 300)], 200),
    "hyp2f1": (mp.hyp2f1, [uniform(-2, 1, 4), uniform(-2, 1, 4), uniform(0.5, 3, 6), uniform(-3, 0, 0.9)], 200),
    "i0": (lambda x: mp.besseli(0, x), [RNG.normal(0, 20, 24)], 6),
    "i1": (lambda x: mp.besseli(1, x), [RNG.normal(0, 20, 24)], 7),
    "log_ndtr": (log_ndtr, [np.concatenate([uniform(-30, -3, 0, 3, 12), spread(-6, 0)])], 4),
    "logit": (lambda x: mp.log(x / (1 - x)), [uniform(0, 0.3, 0.7, 1)], 4),
    "ndtr": (lambda x: mp.erfc(-x / mp.sqrt(2)) / 2, [uniform(-35, -2, 0, 6)], 4),
    "ndtri": (ndtri, [np.concatenate([spread(-300, -1), uniform(0, 0.5, 1), 1 - spread(-15, -1)])], 4),
    "owens_t": (owens_t, [RNG.normal(0, 1.5, 6), RNG.normal(0, 1.5, 6)], 40),
    "poch": (mp.rf, [uniform(-4, 3, 20), uniform(-2, 3, 20)], 100),
    "spence": (lambda x: mp.re(mp.polylog(2, 1 - x)), [uniform(0, 0.5, 1.5, 2, 100)], 3),
    "zeta": (mp.zeta, [1 + spread(-1, 1), spread(-1, 1)], 8),
}
ACCURACY["fresnel"] = (lambda x: (mp.fresnels(x), mp.fresnelc(x)), [np.concatenate([REAL, spread(3, 6)])], 3)
ACCURACY["sici"] = (lambda x: (mp.si(x), mp.re(mp.ci(abs(x)))), [np.concatenate([REAL, uniform(0.616, 0.617)])], 16)


# At zeros of the function or of its terms, the errors are relative to this instead of the result, if it is larger.
LEAST: dict[str, Callable[..., Any]] = {"betaln": lambda a, b: 1, "sici": lambda x: 1 / (1 + abs(x))}


def points_of(name: str, dtype: Any) -> list[np.ndarray]:
    return [p.astype(dtype) for p in ACCURACY[name][1]]


def ulp_error(actual: Any, values: list[mp.mpf], least: list[Any]) -> float:
    """The largest error in units of the last place, of results in the range of normal numbers."""
    actual = np.asarray(actual)
    facts = np.finfo(actual.dtype)
    worst = 0.0
    for found, value, size in zip(actual.tolist(), values, least, strict=True):
        if facts.tiny < abs(value) < facts.max:
            _, exponent = mp.frexp(max(abs(value), size))
            worst = max(worst, float(abs(found - value) / mp.mpf(2) ** (exponent - facts.nmant - 1)))
    return worst


@pytest.mark.parametrize("name", ACCURACY)
def test_errors_are_within_the_bounds(name: str):
    reference, _, bound = ACCURACY[name]
    for dtype in (np.float32, np.float64):
        points = points_of(name, dtype)
        with enable_x64(dtype is np.float64), mp.workdps(40):
            actual = getattr(special, name)(*points)
            values = [reference(*map(mp.mpf, map(float, p))) for p in zip(*points, strict=True)]
            results = actual if isinstance(actual, tuple) else (actual,)
            columns = zip(*values, strict=True) if isinstance(actual, tuple) else [values]
            least = [LEAST[name](*p) if name in LEAST else 0 for p in zip(*points, strict=True)]
            for result, column in zip(results, columns, strict=True):
                assert result.dtype == dtype
                assert ulp_error(result, list(column), least) <= (bound if dtype is np.float64 else 1)


def test_the_page_lists_the_bounds():
    text = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8").split("## Functions of `scipy.special`")[1]
    rows = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|$", text, re.MULTILINE))
    assert {name: float(b) for name, b in rows.items()} == {name: bound for name, (*_, bound) in ACCURACY.items()}


# ---------------------------------------------------------------- all names, against SciPy and JAX

X, Y, P = uniform(0.1, 3, count=6), uniform(0.2, 4, count=6), uniform(0.05, 0.95, count=6)
N = np.array([0, 1, 2, 3, 5, 8])
VALUES: dict[str, tuple] = {
    **dict.fromkeys(("digamma", "dawsn", "entr", "erf", "erfc", "erfcx", "exp1", "expi", "expit", "fresnel"), (X,)),
    **dict.fromkeys(("gamma", "gammaln", "gammasgn", "i0", "i0e", "i1", "i1e", "loggamma", "sici", "spence"), (X,)),
    **dict.fromkeys(("log_ndtr", "ndtr"), (X - 1,)),
    **dict.fromkeys(("erfinv", "logit", "ndtri"), (P,)),
    **dict.fromkeys(("beta", "betaln", "boxcox", "boxcox1p", "gammainc", "gammaincc", "kl_div"), (X, Y)),
    **dict.fromkeys(("owens_t", "poch", "rel_entr", "xlog1py", "xlogy"), (X, Y)),
    "bernoulli": (12,),
    "betainc": (X, Y, P),
    "comb": (N + 3, N),
    "expn": (N, X),
    "factorial": (N,),
    "hyp1f1": (X, Y, X - 1),
    "hyp2f1": (X, Y, X + 1, P),
    "log_softmax": (X,),
    "logsumexp": (X,),
    "multigammaln": (X + 2, 3),
    "polygamma": (N, X),
    "softmax": (X,),
    "wofz": (X,),
    "zeta": (X + 1, Y),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_scipys(name: str):
    with enable_x64():
        expected = getattr(oracle, name)(*VALUES[name])
        assert_close(getattr(special, name)(*VALUES[name]), expected, rtol=2e-12, check_dtypes=False)


@pytest.mark.oracle
def test_names_signatures_and_types_are_jaxs(jax):
    theirs = jax.scipy.special
    names = [n for n in dir(theirs) if callable(getattr(theirs, n)) and not n.startswith("_")]
    assert set(names) <= set(dir(special))
    for name, args in VALUES.items():
        ours, other = getattr(special, name), getattr(theirs, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(other).parameters), name
        narrow = {"f": np.float32, "i": np.int32}
        arrays = [a.astype(narrow[a.dtype.kind]) if isinstance(a, np.ndarray) else a for a in args]
        scalars = [a[1].item() if isinstance(a, np.ndarray) else a for a in args]
        for given in (arrays, scalars):
            mine, wanted = (
                [(a.shape, a.dtype, a.weak_type) for a in lib.tree.leaves(lib.eval_shape(lambda f=f, g=given: f(*g)))]
                for lib, f in ((fg, ours), (jax, other))
            )
            assert mine == wanted, name


# ---------------------------------------------------------------- derivatives

DIFFERENTIABLE: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("dawsn", "digamma", "entr", "erf", "erfcx", "exp1", "expi", "fresnel", "gamma", "gammaln"), (0,)),
    **dict.fromkeys(("i0", "i1", "log_ndtr", "logit", "ndtr", "ndtri", "sici", "spence"), (0,)),
    **dict.fromkeys(("beta", "betaln", "boxcox", "boxcox1p", "kl_div", "owens_t", "poch", "rel_entr"), (0, 1)),
    **dict.fromkeys(("xlog1py", "xlogy", "zeta"), (0, 1)),
    "expn": (1,),
    "hyp1f1": (1, 2),
    "hyp2f1": (0, 2, 3),
}


def slope(function: Callable[..., Any], args: list, i: int) -> Callable[[Any], Any]:
    """The derivative of a function by one operand, as a function of it."""

    def of_one(x: Any) -> Any:
        return function(*args[:i], x, *args[i + 1 :])

    return lambda x: fg.jvp(of_one, (x,), (jnp.ones_like(x),))[1]


def difference(function: Callable[[Any], Any], x: Any, step: float = 1e-5) -> Any:
    """The central difference of a function."""
    return fg.tree.map(lambda above, below: (above - below) / (2 * step), function(x + step), function(x - step))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_to_second_order(name: str):
    with enable_x64():
        function, args = getattr(special, name), [jnp.asarray(a) for a in VALUES[name]]
        for i in DIFFERENTIABLE[name]:
            first = slope(function, args, i)
            second = slope(first, args[i : i + 1], 0)

            def value(x: Any, i: int = i) -> Any:
                return function(*args[:i], x, *args[i + 1 :])

            assert_close(first(args[i]), difference(value, args[i]), rtol=1e-6, atol=1e-6)
            assert_close(second(args[i]), difference(first, args[i]), rtol=1e-6, atol=1e-6)


def test_reverse_mode_vmap_and_jit():
    def total(x, y, p):
        return special.erfcx(x) + special.betaln(x, y) + special.ndtri(p)

    x, y, p = (a.astype(np.float32) for a in (X, Y, P))
    check_vmap(fg.grad(total, (0, 1, 2)), (x, y, p))
    check_jit(total, (x, y, p))


def test_compiled_functions_call_no_numpy():
    def everything(x, y, p):
        parts = (special.hyp1f1(x, y, p), special.hyp2f1(x, y, x + 1, p), special.expn(2, x), special.owens_t(x, y))
        return sum(parts) + special.bessel_jn(x, v=2)[2] + special.sici(y)[0] + special.zeta(x + 1, y) + special.i1(x)

    assert of_function(everything, X, Y, P) == set()


def test_derivatives_are_finite_where_functions_have_limits():
    assert special.boxcox(2.0, 0.0) == pytest.approx(np.log(2))
    assert fg.grad(special.boxcox, 1)(2.0, 0.0) == pytest.approx(np.log(2) ** 2 / 2)
    assert fg.grad(special.xlogy)(0.0, 2.0) == pytest.approx(np.log(2))
    assert fg.grad(special.rel_entr)(0.0, 1.0) == 0
    assert fg.grad(special.spence)(1.0) == -1
    assert fg.grad(special.log_ndtr)(-1e4) == pytest.approx(1e4)
    assert fg.grad(fg.grad(special.i1))(0.0) == 0


# ---------------------------------------------------------------- single functions

INF, NAN = np.inf, np.nan
LIMITS = [
    *(("gamma", (x,), y) for x, y in ((0.0, INF), (-0.0, -INF), (-1.0, NAN), (INF, INF), (-INF, NAN), (172.0, INF))),
    *(("erfcx", (x,), y) for x, y in ((INF, 0), (-INF, INF), (NAN, NAN), (-30.0, INF))),
    *(("dawsn", (x,), y) for x, y in ((0.0, 0), (INF, 0), (NAN, NAN))),
    *(("exp1", (x,), y) for x, y in ((0.0, INF), (INF, 0), (-1.0, NAN))),
    *(("expi", (x,), y) for x, y in ((0.0, -INF), (INF, INF), (-INF, 0), (NAN, NAN))),
    *(("expn", a, y) for a, y in (((0, 0.0), INF), ((1, 0.0), INF), ((3, 0.0), 0.5), ((2, INF), 0), ((2, -1.0), NAN))),
    *(("spence", (x,), y) for x, y in ((0.0, np.pi**2 / 6), (1.0, 0), (-1.0, NAN), (INF, -INF))),
    *(("ndtri", (x,), y) for x, y in ((0.0, -INF), (1.0, INF), (0.5, 0), (-0.1, NAN), (1.1, NAN))),
    *(("log_ndtr", (x,), y) for x, y in ((-INF, -INF), (INF, 0), (NAN, NAN))),
    *(("ndtr", (x,), y) for x, y in ((-INF, 0), (INF, 1), (0.0, 0.5))),
    *(("owens_t", a, y) for a, y in (((0.0, INF), 0.25), ((INF, 1.0), 0), ((1.0, 0.0), 0), ((NAN, 1.0), NAN))),
    *(("hyp1f1", a, y) for a, y in (((0.0, 1.0, 2.0), 1), ((1.0, 0.0, 2.0), INF), ((2.0, 2.0, 1.0), np.e))),
    *(
        ("hyp2f1", a, y)
        for a, y in (((1.0, 1.0, 3.0, 1.0), 2), ((1.0, 1.0, 2.0, 2.0), INF), ((-2.0, 1.0, 1.0, 3.0), 4))
    ),
    *(("xlogy", a, y) for a, y in (((0.0, 0.0), 0), ((0.0, NAN), NAN), ((1.0, 0.0), -INF))),
    *(("entr", (x,), y) for x, y in ((0.0, 0), (-1.0, -INF))),
    *(("rel_entr", a, y) for a, y in (((0.0, 0.0), 0), ((1.0, 0.0), INF), ((-1.0, 1.0), INF))),
    *(("poch", a, y) for a, y in (((-3.0, 2.0), 6), ((2.0, 0.0), 1), ((-2.0, 3.0), 0))),
    *(("comb", a, y) for a, y in (((5, 2), 10), ((2, 5), 0), ((-1, 1), 0))),
    *(("factorial", (x,), y) for x, y in ((-1, 0), (0, 1))),
    *(("i0", (x,), y) for x, y in ((89.0, oracle.i0(89.0)), (-INF, INF))),
]


@pytest.mark.parametrize("name", sorted({name for name, *_ in LIMITS}))
def test_limits(name: str):
    for function, args, expected in LIMITS:
        if function == name:
            assert_close(getattr(special, name)(*args), np.float32(expected), rtol=1e-6, atol=1e-7)


def test_sine_integrals_at_infinity():
    assert_close(
        special.sici(np.array([INF, -INF])), (np.array([1, -1]) * np.pi / 2, np.array([0, NAN])), check_dtypes=False
    )


def test_complex_functions():
    z = RNG.normal(0, 4, 20) + 1j * RNG.normal(0, 4, 20)
    with enable_x64():
        for name in ("wofz", "erfcx", "loggamma", "gamma"):
            assert_close(getattr(special, name)(z), getattr(oracle, name)(z), rtol=3e-13)
        on_the_cut = np.array([-1.5, -0.5, -2.25]) + 0j
        assert_close(special.loggamma(on_the_cut), oracle.loggamma(on_the_cut), rtol=1e-13)
        for name in ("wofz", "loggamma"):
            slope = fg.grad(getattr(special, name), holomorphic=True)
            f, step = getattr(special, name), 1e-6
            assert_close(slope(1 + 2j), np.asarray((f(1 + 2j + step) - f(1 + 2j - step)) / (2 * step)), rtol=1e-8)


def test_bessel_functions():
    z = np.array([0, 1e-3, 0.7, 5, 24, 26, 60, 500, -3.5])
    with enable_x64():
        assert_close(special.bessel_jn(z, v=12), oracle.jv(np.arange(13)[:, None], z), rtol=1e-10, atol=2e-15)
        slope = fg.jvp(lambda x: special.bessel_jn(x, v=3), (z,), (np.ones_like(z),))[1]
        assert_close(slope, oracle.jvp(np.arange(4)[:, None], z), rtol=1e-10, atol=2e-15)


def test_spherical_harmonics():
    n, m = np.array([0, 1, 2, 5, 5, 9]), np.array([0, -1, 2, 0, -5, 7])
    theta, phi = uniform(0, 3, count=6), uniform(-3, 6, count=6)
    expected = oracle.sph_harm_y(n, m, theta, phi)
    with enable_x64():
        assert_close(special.sph_harm_y(n, m, theta, phi), expected, rtol=1e-12, atol=1e-14)
        jitted = fg.jit(lambda *a: special.sph_harm_y(*a, n_max=9))
        assert_close(jitted(n, m, theta, phi), expected, rtol=1e-12, atol=1e-14)


def test_errors_explain_the_cause():
    for name in ("beta", "dawsn", "digamma", "entr", "expi", "gammasgn", "hyp1f1", "i0", "ndtr", "sici"):
        with pytest.raises(DTypeError, match=name):
            getattr(special, name)(*[1j] * len(VALUES[name]))
    for call in (
        lambda: special.zeta(2.0),
        lambda: special.bernoulli(-1),
        lambda: special.log_ndtr(1.0, series_order=31),
        lambda: special.bessel_jn(1.0, v=-1),
        lambda: special.sph_harm_y(1, 0, 0.1, 0.1, diff_n=1),
        lambda: special.factorial(3, exact=True),
        lambda: fg.jit(special.sph_harm_y)(*[np.array([1])] * 4),
        lambda: special.multigammaln(1.0, 1.5),
    ):
        with pytest.raises(ArgumentError):
            call()
    with pytest.raises(FuncgradError):
        special.polygamma(1.0, 2.0)
