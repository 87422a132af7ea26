"""Containers of layers: params and state in the structure of the parts."""

from __future__ import annotations

import re

import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn, random
from funcgrad.errors import FuncgradError

KEY = random.key(0)
X = jnp.ones((2, 4))


def counter() -> nn.Layer:
    """A layer that adds to its input the number of its applications in training."""

    def apply(params, x, *, state, key=None, train=False):
        return x + state["count"], {"count": state["count"] + 1} if train else state

    return nn.Layer(lambda key, shape: (shape, (), {"count": jnp.int32(0)}), apply, "Counter()", stateful=True)


POSITIONAL = nn.Sequential(counter(), nn.Linear(3), nn.Sequential(counter(), nn.relu))
NAMED = nn.Sequential(norm=counter(), out=nn.Linear(3), rest=POSITIONAL)


def test_state_has_the_structure_of_the_parts():
    shape, params, state = POSITIONAL.init(KEY, 4)
    assert POSITIONAL.stateful and not nn.Sequential(nn.relu).stateful
    assert shape == (3,) and params[0] == () and params[2] == ((), ())
    assert state == ({"count": 0}, (), ({"count": 0}, ()))
    y, same = POSITIONAL.apply(params, X, state=state)
    assert same == state and y.shape == (2, 3)
    for n in (1, 2):
        y, state = POSITIONAL.apply(params, X, state=state, train=True)
        assert state == ({"count": n}, (), ({"count": n}, ()))
    _, params, state = NAMED.init(KEY, 4)
    assert list(params) == list(state) == ["norm", "out", "rest"]
    assert NAMED.apply(params, X, state=state, train=True)[1]["rest"][0] == {"count": 1}


def test_state_passes_through_transforms():
    _, params, state = NAMED.init(KEY, 4)

    def loss(params, state, x):
        y, state = NAMED.apply(params, x, state=state, train=True)
        return y.sum(), state

    grads, after = fg.jit(fg.grad(loss, has_aux=True))(params, state, X)
    assert fg.tree.structure(grads) == fg.tree.structure(params)
    assert fg.tree.structure(after) == fg.tree.structure(state) and after["norm"]["count"] == 1
    after, _ = fg.lax.scan(lambda carry, x: (loss(params, carry, x)[1], 0.0), state, X[:, None])
    assert after["norm"]["count"] == 2
    assert fg.vmap(lambda x: loss(params, state, x)[0])(X[:, None]).shape == (2,)


def test_every_layer_can_be_used_with_a_state():
    for layer in (nn.Sequential(nn.Linear(3), nn.relu), POSITIONAL):
        shape, params, state = layer.init_with_state(KEY, 4)
        y, after = layer.apply_with_state(params, X, state)
        assert y.shape == (2, *shape) and fg.tree.structure(after) == fg.tree.structure(state)


def test_named_parts_print_with_their_names():
    assert str(nn.Sequential(first=nn.Linear(3), act=nn.relu, last=nn.Sequential(nn.Linear(2)))).splitlines() == [
        "Sequential(",
        "  first: Linear(3)",
        "  act: relu",
        "  last: Sequential(",
        "    [0] Linear(2)",
        "  )",
        ")",
    ]


def test_several_inputs_have_several_shapes():
    add = nn.Layer(lambda key, shapes: (shapes[0], ()), lambda params, x, **_: x[0] + x[1], "Add()")
    assert add.init(None, ((3,), (3,)))[0] == add.init(None, (jnp.ones(3), jnp.ones(3)))[0] == (3,)
    assert add.apply((), (X, X)).tolist() == (X + X).tolist()


def _init(model):
    return model.init_with_state(KEY, 4)


CASES = {
    "no state": (
        lambda: POSITIONAL.apply(_init(POSITIONAL)[1], X),
        ["Sequential: apply: no state was passed", "y, state = model.apply(params, x, state=state)"],
    ),
    "a state of a layer without": (
        lambda: nn.Linear(3).apply(_init(nn.Linear(3))[1], X, state={}),
        ["Linear(3): apply: a state of type dict was passed to a layer without state"],
    ),
    "state of another structure": (
        lambda: POSITIONAL.apply(_init(POSITIONAL)[1], X, state={}),
        ["Sequential: state of type dict for 3 layers", "out_shape, params, state = model.init"],
    ),
    "state of fewer layers": (
        lambda: POSITIONAL.apply(_init(POSITIONAL)[1], X, state=({"count": 0},)),
        ["Sequential: state of 1 layers for 3 layers"],
    ),
    "state of a part without": (
        lambda: POSITIONAL.apply(_init(POSITIONAL)[1], X, state=[{"count": 0}] * 3),
        ["Linear(3): apply: a state of type dict", "([1] Linear(3))"],
    ),
    "a renamed part": (
        lambda: NAMED.apply({"norm": (), "output": (), "rest": ()}, X, state={}),
        ["Sequential: params lacks 'out' and has 'output', for layers norm, out, rest", "model.init"],
    ),
    "params of positions for names": (
        lambda: NAMED.apply(((), (), ()), X, state={}),
        ["Sequential: params of type tuple for layers norm, out, rest"],
    ),
    "an error in a named part": (
        lambda: nn.Sequential(a=nn.Sequential(out=nn.Linear(3))).apply({"a": {"out": {}}}, X),
        ["Linear: no parameter 'kernel'", "(a: Sequential/out: Linear(3))"],
    ),
    "some names": (
        lambda: nn.Sequential(nn.Linear(3), act=nn.relu),
        ["Sequential: 1 layers without names and layers named act", "all layers or none"],
    ),
    "layers as a dict": (lambda: nn.Sequential({"a": nn.relu}), ["of type dict", "Sequential(**layers)"]),
    "a named layer without its call": (lambda: nn.Sequential(a=nn.Relu), ["layer a is the function Relu"]),
}


# ---------------------------------------------------------------- Residual, Parallel, Compose


def test_residual_adds_the_input_or_a_shortcut():
    twice = nn.Residual(lambda x: x)
    assert twice.apply({"layer": ()}, X).tolist() == (2 * X).tolist()
    model = nn.Residual(nn.Linear(3), nn.Linear(3, bias=False))
    shape, params = model.init(KEY, 4)
    expected = X @ params["layer"]["kernel"] + params["layer"]["bias"] + X @ params["shortcut"]["kernel"]
    assert shape == (3,) and jnp.allclose(model.apply(params, X), expected)


def test_parallel_merges_outputs():
    both = {"a": nn.Linear(3), "b": counter()}
    shape, params, state = nn.Parallel(**both).init(KEY, 4)
    (a, b), after = nn.Parallel(**both).apply(params, X, state=state, train=True)
    assert shape == ((3,), (4,)) and a.shape == (2, 3) and after["b"]["count"] == 1
    joined = nn.Parallel(nn.Linear(3), nn.relu, merge="concatenate")
    assert joined.init(KEY, 4)[0] == (7,) and joined.apply(joined.init(KEY, 4)[1], X).shape == (2, 7)
    added = nn.Parallel(nn.relu, nn.relu, nn.relu, merge="sum")
    assert added.apply(added.init(KEY, 4)[1], X).tolist() == (3 * X).tolist()
    pair = nn.Sequential(nn.Parallel(nn.Linear(3), nn.Linear(2)), nn.Bilinear(5))
    assert pair.init(KEY, 4)[0] == (5,) and pair.apply(pair.init(KEY, 4)[1], X).shape == (2, 5)


def test_a_function_composes_layers():
    def block(layers, x):
        h = nn.relu(layers.expand(layers.norm(x)))
        return layers.project(h) + (x if layers.train else 0 * x)

    model = nn.Sequential(nn.Linear(4), nn.Compose(block, norm=counter(), expand=nn.Linear(8), project=nn.Linear(4)))
    shape, params, state = model.init(KEY, 4)
    assert shape == (4,) and {name: p["kernel"].shape for name, p in params[1].items() if p} == {
        "expand": (4, 8),
        "project": (8, 4),
    }
    y, after = model.apply(params, X, state=state, train=True)
    x = X @ params[0]["kernel"] + params[0]["bias"]
    own = params[1]
    h = nn.relu(x @ own["expand"]["kernel"] + own["expand"]["bias"])
    assert jnp.allclose(y, h @ own["project"]["kernel"] + own["project"]["bias"] + x, atol=1e-5)
    assert after[1]["norm"]["count"] == 1
    assert "block(\n    norm: Counter()" in str(model)


def test_keyword_only_arguments_reach_the_function():
    def forward(layers, x, *, mask=1.0):
        return layers.f(x) * mask

    model = nn.Compose(forward, f=nn.relu)
    assert model.apply({"f": ()}, X, mask=3.0).tolist() == (3 * X).tolist()
    assert fg.jit(model.apply)({"f": ()}, X, mask=jnp.zeros(4)).tolist() == (0 * X).tolist()


def test_a_layer_applied_twice_shares_params_and_draws_twice():
    def forward(layers, x):
        return layers.drop(x), layers.drop(x), layers.count(layers.count(x))

    model = nn.Compose(forward, drop=nn.Dropout(0.5), count=counter())
    x = jnp.zeros((4, 40)) + 1
    shape, params, state = model.init(KEY, 40)
    (a, b, c), state = model.apply(params, x, state=state, key=KEY, train=True)
    assert shape == ((40,),) * 3 and a.tolist() != b.tolist() and c[0, 0] == 2 and state["count"]["count"] == 2


CASES |= {
    "a residual of another shape": (
        lambda: nn.Residual(nn.Linear(3)).init(KEY, 4),
        ["Residual: the layer maps (4,) to (3,), and the shortcut to (4,)", "give a shortcut"],
    ),
    "an unknown merge": (lambda: nn.Parallel(nn.relu, merge="add"), ["Parallel: merge is 'add'", "sum, concatenate"]),
    "nothing in parallel": (lambda: nn.Parallel(), ["Parallel: no layers"]),
    "a layer never applied": (
        lambda: nn.Compose(lambda layers, x: x, norm=nn.Relu()).init(KEY, 4),
        ["Compose: <lambda> does not apply norm"],
    ),
    "a layer named train": (lambda: nn.Compose(lambda layers, x: x, train=nn.relu), ["a layer is named 'train'"]),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_parts_and_states(name):
    call, parts = CASES[name]
    with pytest.raises(FuncgradError) as error:
        call()
    for part in parts:
        assert re.search(re.escape(part), str(error.value)), str(error.value)
