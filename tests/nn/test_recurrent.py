"""Recurrent layers against PyTorch's figures: outputs, carries, gradients; cells; lengths; bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn, random
from funcgrad.errors import FuncgradError
from tests.nn.recurrent_in_torch import BATCH, CASES, FEATURES, LENGTHS, SIZE, TIME, in_funcgrad, in_torch, inputs

FIGURES = np.load(Path(__file__).with_name("recurrent_in_torch.npz"))
KEY = random.key(0)
X = np.float32(np.random.default_rng(0).standard_normal((BATCH, TIME, SIZE)))


@pytest.mark.parametrize("name", CASES)
def test_outputs_carries_and_gradients_are_those_of_torch(name):
    with fg.enable_x64():
        found = in_funcgrad(CASES[name], fg)
    for what, value in found.items():
        np.testing.assert_allclose(value, FIGURES[f"{name}: {what}"], rtol=1e-9, atol=1e-12, err_msg=what)


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_of_torch(name, torch):
    for what, value in in_torch(CASES[name], torch).items():
        np.testing.assert_allclose(value, FIGURES[f"{name}: {what}"], rtol=1e-9, atol=1e-12, err_msg=what)


@pytest.mark.torch
def test_parameters_from_pytorch_give_its_outputs(torch):
    for case in (CASES["RNN, all"], CASES["LSTM, all"], CASES["GRU, all"]):
        module = getattr(torch.nn, case.kind)(SIZE, FEATURES, case.layers, bidirectional=True, batch_first=True)
        params = nn.from_torch(case.layer, module.state_dict(), in_shape=(TIME, SIZE))
        np.testing.assert_allclose(case.layer.apply(params, X), module(torch.tensor(X))[0].detach(), atol=1e-6)


def test_parameters_from_pytorch_are_those_that_went_there():
    for name in ("RNN", "LSTM without bias", "LSTM, all", "GRU, all"):
        params, *_ = inputs(CASES[name])
        with fg.enable_x64():
            back = nn.from_torch(CASES[name].layer, nn.to_torch(CASES[name].layer, params))
        fg.tree.map(np.testing.assert_array_equal, back, params)
    cell = nn.GRUCell(1)
    given = {
        "weight_ih": np.ones((3, 2)),
        "weight_hh": np.ones((3, 1)),
        "bias_ih": np.arange(3.0),
        "bias_hh": np.ones(3),
    }
    params = nn.from_torch(cell, given, in_shape=2)
    assert params["bias"].tolist() == [1, 2, 2] and params["recurrent_bias"].tolist() == [1]


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_steps_of_a_cell_are_the_layer(kind):
    shape, params = getattr(nn, kind)(FEATURES).init(KEY, (TIME, SIZE))
    y, (final,) = getattr(nn, kind)(FEATURES).apply(params, X, return_carry=True)
    cell, carry = getattr(nn, f"{kind}Cell")(FEATURES), None
    cell_shape, own = cell.init(KEY, (SIZE,))
    assert shape == (TIME, FEATURES) and cell_shape == (FEATURES,)
    assert fg.tree.structure((own,)) == fg.tree.structure(params)
    for t in range(TIME):
        out, carry = cell.apply(params[0], X[:, t], carry=carry)
        np.testing.assert_allclose(out, y[:, t], rtol=1e-5, atol=1e-6)
    fg.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), carry, final)


def test_shapes_names_and_initial_values_of_parameters():
    shape, params = nn.GRU(FEATURES, 2, bidirectional=True).init(KEY, (TIME, SIZE))
    assert shape == (TIME, 2 * FEATURES) and [list(own) for own in params] == [["forward", "backward"]] * 2
    names = {name: value.shape for name, value in params[1]["backward"].items()}
    assert names == {"kernel": (4, 6), "recurrent_kernel": (2, 6), "bias": (6,), "recurrent_bias": (2,)}
    for gate in np.split(np.asarray(params[0]["forward"]["recurrent_kernel"]), 3, -1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(2), atol=1e-6)
    assert not np.array_equal(params[0]["forward"]["kernel"], params[0]["backward"]["kernel"])


def test_padding_has_no_effect():
    """Outputs, carries and gradients of a padded sequence are those of the sequence; the padding may be NaN."""
    layer = nn.LSTM(FEATURES, 2, bidirectional=True)
    _, params = layer.init(KEY, (TIME, SIZE))
    padded = jnp.where(np.arange(TIME)[:, None] < LENGTHS[:, None, None], X, np.nan)
    y, carry = layer.apply(params, padded, lengths=LENGTHS, return_carry=True)
    for i, n in enumerate(LENGTHS):
        own, own_carry = layer.apply(params, X[i : i + 1, :n], return_carry=True)
        np.testing.assert_allclose(y[i : i + 1, :n], own, rtol=1e-5, atol=1e-6)
        assert not np.asarray(y[i, n:]).any()
        fg.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b[0], rtol=1e-5, atol=1e-6), carry, own_carry)


def test_dropout_is_between_layers_in_training():
    one, two = nn.LSTM(FEATURES, dropout=0.5), nn.LSTM(FEATURES, 2, dropout=0.5)
    _, params = two.init(KEY, (TIME, SIZE))
    assert np.array_equal(one.apply(params[:1], X, key=KEY, train=True), one.apply(params[:1], X))
    dropped = [two.apply(params, X, key=random.key(i), train=True) for i in (1, 1, 2)]
    assert np.array_equal(dropped[0], dropped[1]) and not np.allclose(dropped[0], dropped[2])
    assert not np.allclose(dropped[0], two.apply(params, X))


def test_layers_are_the_same_under_vmap():
    layer = nn.GRU(FEATURES, bidirectional=True)
    _, params = layer.init(KEY, (TIME, SIZE))
    each = fg.vmap(lambda x, n: layer.apply(params, x[None], lengths=n[None])[0])(X, LENGTHS)
    np.testing.assert_allclose(each, layer.apply(params, X, lengths=LENGTHS), rtol=1e-5, atol=1e-6)


def test_the_product_of_the_inputs_is_outside_of_the_loop():
    _, params = nn.LSTM(FEATURES).init(KEY, (TIME, SIZE))
    scan = next(e for e in fg.make_jaxpr(nn.LSTM(FEATURES).apply)(params, X).eqns if e.primitive.name == "scan")
    products = [e.invars[0].aval.shape for e in scan.params["jaxpr"].eqns if e.primitive.name == "dot_general"]
    assert products == [(BATCH, FEATURES)]


def _made(layer: nn.Layer, shape: tuple[int, ...] = (TIME, SIZE)) -> tuple[nn.Layer, object]:
    return layer, layer.init(KEY, shape)[1]


LSTM, PARAMS = _made(nn.LSTM(FEATURES, 2))
BOTH, BOTH_PARAMS = _made(nn.GRU(FEATURES, bidirectional=True))
H = jnp.zeros((BATCH, FEATURES))
WRONG = {
    "features": (lambda: nn.LSTM(0), "LSTM: features is 0"),
    "layers": (lambda: nn.GRU(3, 0), "GRU: layers is 0"),
    "rate": (lambda: nn.LSTM(3, dropout=1.5), "Dropout: rate.* is 1.5"),
    "in_shape": (
        lambda: nn.LSTM(3).init(KEY, 4),
        r"LSTM: the shape of an example is \(4,\).*\n.*\n.*\(time, features\)",
    ),
    "in_shape of a cell": (lambda: nn.LSTMCell(3).init(KEY, (5, 4)), r"LSTMCell: .* shape \(5, 4\)"),
    "rank": (lambda: LSTM.apply(PARAMS, X[0]), r"LSTM: the input is f32\[5,4\]"),
    "input features": (lambda: LSTM.apply(PARAMS, X[..., :3]), r"LSTM: .*f32\[5,3,3\] has 3 features.*expects 4"),
    "params of one layer": (lambda: LSTM.apply(PARAMS[:1], X), "LSTM: params of 1 layers for 2 layers"),
    "params of a cell": (lambda: LSTM.apply(PARAMS[0], X), "LSTM: params of type dict for 2 layers"),
    "params renamed": (lambda: nn.LSTM(2).apply(({"weight": X},), X), "LSTM: no parameter 'kernel'"),
    "params of one direction": (lambda: BOTH.apply(PARAMS[:1], X), "GRU: params of keys .* for two directions"),
    "params of other features": (
        lambda: nn.LSTM(3, 2).apply(PARAMS, X),
        r"LSTM: parameter 'kernel' is f32\[4,8\], not .*12",
    ),
    "lengths": (lambda: LSTM.apply(PARAMS, X, lengths=LENGTHS + 1), r"LSTM: lengths has 6 at index \(0,\)"),
    "count of lengths": (
        lambda: LSTM.apply(PARAMS, X, lengths=LENGTHS[:2]),
        r"LSTM: lengths are i32\[2\].*f32\[3,5,4\]",
    ),
    "carry": (lambda: LSTM.apply(PARAMS, X, carry=(H, H)), r"LSTM: the carry is f32\[3,2\].*\n.*\n.*\(h, c\)"),
    "carry of one layer": (lambda: LSTM.apply(PARAMS, X, carry=((H, H),)), "LSTM: carry of 1 layers for 2 layers"),
    "carry of one direction": (lambda: BOTH.apply(BOTH_PARAMS, X, carry=(H,)), "GRU: carry of type .* two directions"),
    "an unknown argument": (
        lambda: LSTM.apply(PARAMS, X, mask=H),
        "apply has no argument 'mask'.*\n.*\n.*lengths, carry",
    ),
    "no key": (lambda: nn.LSTM(2, 2, dropout=0.5).apply(PARAMS, X, train=True), "Dropout: training needs a key"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_layer_and_both_values(name):
    call, message = WRONG[name]
    with pytest.raises(FuncgradError, match=message) as caught:
        call()
    assert "\n  fix: " in str(caught.value)


def test_traced_lengths_out_of_range_make_nan():
    y = fg.jit(lambda n: LSTM.apply(PARAMS, X, lengths=n))(np.array([5, 6, -1]))
    assert np.isnan(y).all((1, 2)).tolist() == [False, True, True]
