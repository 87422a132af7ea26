"""nn: values and derivatives against JAX and against definitions; layers; losses."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import special

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn, random
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from tests.comparing import assert_same

RNG = np.random.default_rng(0)
# Kinks and their neighbors, and values far out.
POINTS = np.float32([-300, -20, -6, -3, -1.5, -1, -0.3, -1e-4, -0.0, 0, 1e-4, 0.4, 1, 2, 3, 6, 7, 20, 300])
ACTIVATIONS = [
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "swish",
    "tanh",
]


def _slopes(module, function, x):
    return np.asarray(module.vmap(module.grad(function))(x))


close = functools.partial(assert_same, rtol=3e-6, atol=1e-6)


# ---------------------------------------------------------------- functions


@pytest.mark.oracle
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_jax_in_value_and_slope(name):
    import jax

    ours, theirs = getattr(nn, name), getattr(jax.nn, name)
    close(ours(POINTS), theirs(POINTS))
    close(_slopes(fg, ours, POINTS), _slopes(jax, theirs, POINTS))
    close(fg.jit(fg.vmap(fg.grad(ours)))(POINTS), _slopes(jax, theirs, POINTS), rtol=1e-5)


@pytest.mark.oracle
def test_options_of_activations_are_jax():
    import jax

    close(nn.gelu(POINTS, approximate=False), jax.nn.gelu(POINTS, approximate=False), atol=1e-5)
    close(nn.leaky_relu(POINTS, 0.2), jax.nn.leaky_relu(POINTS, 0.2))
    close(nn.celu(POINTS, 0.5), jax.nn.celu(POINTS, 0.5))
    close(nn.glu(POINTS[:18].reshape(2, 9).T, axis=-1), jax.nn.glu(POINTS[:18].reshape(2, 9).T, axis=-1))
    close(nn.log1mexp(np.float32([1e-6, 0.3, 0.7, 5])), jax.nn.log1mexp(np.float32([1e-6, 0.3, 0.7, 5])))


def test_relu_keeps_integers_and_nan():
    assert nn.relu(jnp.array([-1, 2])).tolist() == [0, 2]
    assert np.isnan(nn.relu(jnp.float32(np.nan)))
    assert fg.grad(nn.relu)(0.0) == 0 and fg.grad(nn.relu6)(6.0) == 0


X = RNG.standard_normal((3, 5)).astype(np.float32) * 4
MASK = RNG.random((3, 5)) < 0.6
MASK[:, :2] = True  # one element has no variance


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "standardize"])
@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": (0, 1)}, {"where": MASK}])
def test_normalizers_are_jax(name, options):
    import jax

    ours, theirs = getattr(nn, name), getattr(jax.nn, name)
    close(ours(X, **options), theirs(X, **options), rtol=2e-5)
    weights = np.where(MASK, X, 0)

    def loss(module_where, function):
        return lambda x: (module_where(MASK, function(x, **options), 0) * weights).sum()

    expected = jax.grad(loss(jax.numpy.where, theirs))(X)
    close(fg.grad(loss(jnp.where, ours))(X), expected, rtol=2e-4, atol=2e-5)
    close(fg.jit(fg.grad(loss(jnp.where, ours)))(X), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"axis": 1},
        {"axis": (0,), "keepdims": True},
        {"where": MASK, "axis": 1},
        {"b": np.abs(X), "axis": 1},
        {"b": X, "axis": 1, "return_sign": True},
        {"b": X, "axis": 1},
    ],
)
def test_logsumexp_is_jax(options):
    import jax

    ours, theirs = nn.logsumexp(X, **options), jax.nn.logsumexp(X, **options)
    for a, b in zip(ours, theirs, strict=True) if isinstance(theirs, tuple) else [(ours, theirs)]:
        close(a, b)


def test_logsumexp_at_the_edges():
    assert nn.logsumexp(jnp.array([-np.inf, -np.inf])) == -np.inf
    assert nn.logsumexp(jnp.array([np.inf, 0.0])) == np.inf
    assert np.allclose(nn.logsumexp(jnp.array([1e4, 1e4])), 1e4 + np.log(2))
    assert np.allclose(nn.logmeanexp(X, 1), special.logsumexp(X, 1) - np.log(5), rtol=1e-5)
    assert np.allclose(nn.logmeanexp(X, where=MASK), special.logsumexp(X[MASK]) - np.log(MASK.sum()), rtol=1e-5)
    assert np.allclose(fg.grad(nn.logsumexp)(X), special.softmax(X), rtol=1e-5)


def test_softmax_does_not_overflow():
    assert nn.softmax(jnp.array([1e30, 0.0, -1e30])).tolist() == [1, 0, 0]
    assert np.allclose(np.sum(nn.softmax(X * 100), -1), 1)


def test_one_hot():
    assert np.array_equal(nn.one_hot(jnp.array([[1], [-1]]), 3), [[[0, 1, 0]], [[0, 0, 0]]])
    assert nn.one_hot(jnp.array([0, 2, 7]), 4, axis=0, dtype="int8").shape == (4, 3)
    assert nn.one_hot(1, 3, dtype=bool).tolist() == [False, True, False]


# ---------------------------------------------------------------- initializers


@pytest.mark.oracle
@pytest.mark.parametrize(
    "name", [f"{n}_{d}" for n in ("lecun", "glorot", "xavier", "he", "kaiming") for d in ("normal", "uniform")]
)
def test_initializers_are_jax(name):
    import jax

    ours, theirs = getattr(nn.initializers, name), getattr(jax.nn.initializers, name)
    for shape in ((7, 3), (3, 3, 4, 5)):
        close(ours()(random.key(1), shape), theirs()(jax.random.key(1), shape), rtol=2e-5)
    close(
        ours(in_axis=0, out_axis=1)(random.key(1), (2, 6)),
        theirs(in_axis=0, out_axis=1)(jax.random.key(1), (2, 6)),
        rtol=2e-5,
    )


@pytest.mark.oracle
@pytest.mark.parametrize(
    "name, args",
    [
        ("constant", (2.5,)),
        ("uniform", (0.3,)),
        ("normal", (0.3,)),
        ("truncated_normal", (0.3,)),
        ("variance_scaling", (2.0, "fan_out", "normal")),
        ("variance_scaling", (0.5, "fan_geo_avg", "truncated_normal")),
    ],
)
def test_other_initializers_are_jax(name, args):
    import jax

    ours, theirs = getattr(nn.initializers, name)(*args), getattr(jax.nn.initializers, name)(*args)
    close(ours(random.key(1), (7, 3)), theirs(jax.random.key(1), (7, 3)), rtol=2e-5)


# ---------------------------------------------------------------- layers


def test_layers_print_their_shapes():
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16),
        nn.LayerNorm(),
        nn.Gelu(),
        nn.Dropout(0.5),
        nn.Linear(3, bias=False),
        nn.LogSoftmax(),
    )
    shape, params = model.init(random.key(0), (4, 2))
    x = RNG.standard_normal((5, 4, 2)).astype(np.float32)
    y = fg.jit(model.apply)(params, x)
    assert shape == (3,) and y.shape == (5, 3) and np.allclose(np.exp(y).sum(-1), 1, atol=1e-5)
    assert params[1]["kernel"].shape == (8, 16) and params[2]["scale"].shape == (16,) and params[0] == ()
    assert np.allclose(y, model.apply(params, x), atol=1e-5)
    dropped = [model.apply(params, x, key=random.key(i), train=True) for i in (1, 1, 2)]
    assert np.array_equal(dropped[0], dropped[1]) and not np.allclose(dropped[0], dropped[2])
    slopes = fg.grad(lambda p: model.apply(p, x)[:, 0].sum())(params)
    assert fg.tree.structure(slopes) == fg.tree.structure(params)


def test_layer_norm_and_linear_compute_their_definition():
    x = RNG.standard_normal((6, 4)).astype(np.float32)
    _, params = nn.LayerNorm().init(random.key(0), (4,))
    params = {"scale": jnp.arange(4.0), "bias": params["bias"] + 1}
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * np.arange(4) + 1
    assert np.allclose(nn.LayerNorm().apply(params, x), expected, atol=1e-5)
    _, params = nn.Linear(3, bias_init=nn.initializers.ones).init(random.key(0), (4,))
    assert np.allclose(nn.Linear(3).apply(params, x), x @ np.asarray(params["kernel"]) + 1, atol=1e-6)


def test_embedding_reads_rows_and_its_gradient_adds_to_them():
    layer = nn.Embedding(5, 3)
    shape, params = layer.init(random.key(0), (2,))
    ids = np.array([[0, 4], [4, 1]])
    assert shape == (2, 3) and np.array_equal(layer.apply(params, ids), np.asarray(params["table"])[ids])
    for transform in (fg.grad, lambda f: fg.jit(fg.grad(f))):
        slope = transform(lambda p: layer.apply(p, ids).sum())(params)["table"]
        assert slope[:, 0].tolist() == [1, 1, 0, 0, 2]


def test_dropout_keeps_the_mean():
    x = jnp.ones((200, 200))
    y = nn.Dropout(0.3).apply((), x, key=random.key(0), train=True)
    assert abs(y.mean() - 1) < 0.02 and set(np.unique(y)) == {0, np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 0.02
    assert np.array_equal(nn.Dropout(0.3).apply((), x), x)


# ---------------------------------------------------------------- losses

LOGITS = RNG.standard_normal((6, 4)) * 3
LABELS = np.array([0, 3, 1, 1, 2, 0])
ONE_HOT = np.eye(4)[LABELS]
CLASS_WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5])
WEIGHTS = RNG.random(6)


def _cross_entropy(targets, class_weights=1.0):
    return -(targets * class_weights * special.log_softmax(LOGITS, -1)).sum(-1)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, lambda q: _cross_entropy(q).mean()),
        ({"reduction": "sum"}, lambda q: _cross_entropy(q).sum()),
        ({"reduction": "none"}, _cross_entropy),
        ({"weights": WEIGHTS}, lambda q: (_cross_entropy(q) * WEIGHTS).sum() / WEIGHTS.sum()),
        ({"label_smoothing": 0.1}, lambda q: _cross_entropy(0.9 * q + 0.025).mean()),
    ],
)
def test_cross_entropy_is_its_definition(options, expected):
    with fg.enable_x64():
        assert np.allclose(nn.cross_entropy(LOGITS, LABELS, **options), expected(ONE_HOT))
        assert np.allclose(nn.cross_entropy(LOGITS, ONE_HOT, **options), expected(ONE_HOT))
        soft = special.softmax(LOGITS[::-1], -1)
        assert np.allclose(fg.jit(lambda x: nn.cross_entropy(x, soft, **options))(LOGITS), expected(soft))


def test_class_weights_weigh_the_mean_of_class_numbers():
    with fg.enable_x64():
        found = nn.cross_entropy(LOGITS, LABELS, class_weights=CLASS_WEIGHTS, label_smoothing=0.1)
        smooth = 0.9 * ONE_HOT + 0.025
        assert np.allclose(found, _cross_entropy(smooth, CLASS_WEIGHTS).sum() / CLASS_WEIGHTS[LABELS].sum())
        dense = nn.cross_entropy(LOGITS, ONE_HOT, class_weights=CLASS_WEIGHTS)
        assert np.allclose(dense, _cross_entropy(ONE_HOT, CLASS_WEIGHTS).mean())


def test_cross_entropy_gradient_is_softmax_minus_target():
    with fg.enable_x64():
        for transform in (fg.grad, lambda f: fg.jit(fg.grad(f))):
            slope = transform(lambda x: nn.cross_entropy(x, LABELS, reduction="sum"))(LOGITS)
            assert np.allclose(slope, special.softmax(LOGITS, -1) - ONE_HOT)


A, B = RNG.standard_normal((2, 5, 2)) * 2
P = special.expit(B)


@pytest.mark.parametrize(
    "loss, args, expected",
    [
        (nn.mse, (A, B), (A - B) ** 2),
        (nn.mae, (A, B), np.abs(A - B)),
        (nn.huber, (A, B), special.huber(1.0, A - B)),
        (lambda *a, **k: nn.huber(*a, 0.3, **k), (A, B), special.huber(0.3, A - B)),
        (nn.hinge, (A, np.sign(B)), np.maximum(0, 1 - A * np.sign(B))),
        (nn.binary_cross_entropy, (A, P), -P * special.log_expit(A) - (1 - P) * special.log_expit(-A)),
        (
            nn.kl_divergence,
            (special.log_softmax(A, -1), special.softmax(B, -1)),
            special.rel_entr(special.softmax(B, -1), special.softmax(A, -1)).sum(-1),
        ),
    ],
)
def test_losses_are_their_definition(loss, args, expected):
    weights = RNG.random(expected.shape)
    with fg.enable_x64():
        assert np.allclose(loss(*args), expected.mean())
        assert np.allclose(loss(*args, reduction="none"), expected)
        assert np.allclose(loss(*args, weights=weights), np.average(expected, weights=weights))
        fg.testing.check_grads(lambda x: loss(x, args[1]), (args[0],), order=1)


def test_binary_cross_entropy_is_finite_far_out():
    assert nn.binary_cross_entropy(jnp.array([-1e4, 1e4]), jnp.array([0.0, 1.0])) == 0
    assert nn.kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0])) == np.float32(np.log(2))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: nn.glu(jnp.ones(3)), ShapeError, "glu: axis 0 of f32.3. has odd size"),
        (
            lambda: nn.mse(jnp.ones(3), jnp.ones((3, 1))),
            ShapeError,
            r"mse: predictions f32\[3\] and targets f32\[3,1\]",
        ),
        (lambda: nn.mse(jnp.ones(3), jnp.ones(3), reduction="avg"), ArgumentError, "unknown reduction 'avg'"),
        (lambda: nn.cross_entropy(jnp.ones((3, 2)), jnp.ones(2, int)), ShapeError, "do not fit logits"),
        (lambda: nn.standardize(X, algorithm="slow"), ArgumentError, "unknown algorithm 'slow'"),
        (lambda: nn.Dropout(1.0), ArgumentError, r"Dropout: rate, the fraction of elements dropped, is 1.0"),
        (lambda: nn.Dropout(0.5).apply((), X, train=True), ArgumentError, "training needs a key"),
        (lambda: nn.Linear(3).init(random.key(0), ()), ShapeError, "the input is a scalar"),
        (lambda: nn.Sequential(nn.Relu()).apply([], X), ArgumentError, "params of 0 layers for 1 layers"),
        (lambda: nn.initializers.he_normal()(random.key(0), (3,)), ShapeError, "no input and output axis"),
        (lambda: nn.initializers.he_normal()(random.key(0), (3, 3), "int32"), DTypeError, "not a float"),
        (lambda: nn.initializers.variance_scaling(1, "fan", "normal"), ArgumentError, "'fan' is unknown"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
