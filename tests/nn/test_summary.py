"""nn.summary: a table of the layers of a model."""

from __future__ import annotations

import funcgrad.numpy as jnp
from funcgrad import nn, random


def _cnn() -> nn.Layer:
    block = nn.Residual(nn.Sequential(nn.Conv2d(8, 3), nn.BatchNorm2d()))
    return nn.Sequential(conv=nn.Conv2d(8, 3), act=nn.relu, block=block, flat=nn.Flatten(), out=nn.Linear(10))


def test_rows_have_shapes_parameters_operations_and_memory():
    found = nn.summary(_cnn(), (6, 6, 1), batch=2)
    rows = {row.name: row for row in found.rows}
    assert [row.depth for row in found.rows] == [0, 1, 1, 1, 2, 3, 3, 1, 1]
    conv, out = rows["conv: Conv2d(8, 3)"], rows["out: Linear(10)"]
    assert conv.shape == (6, 6, 8) and conv.params == 3 * 3 * 8 + 8 and conv.memory == 2 * 6 * 6 * 8 * 4
    assert rows["[1] BatchNorm2d()"].params == 16 and rows["flat: Flatten()"].params == 0
    assert out.shape == (10,) and out.params == 6 * 6 * 8 * 10 + 10
    assert out.flops == 2 * (2 * 288 * 10 + 10)
    _, params, state = _cnn().init(random.key(0), (6, 6, 1))
    assert found.params == sum(row.params or 0 for row in found.rows) == 80 + 584 + 16 + 2890
    assert found.state_bytes == 64 and found.flops > out.flops + conv.flops


def test_text_and_html_have_the_same_cells():
    found = nn.summary(_cnn(), (6, 6, 1))
    text, html = repr(found), found._repr_html_()
    for cell in ("conv: Conv2d(8, 3)", "(6, 6, 8)", "2,890", "3,570 parameters, 13.95 KiB, state of 64 B"):
        assert cell in text and cell in html
    assert html.count("<tr>") == len(found.rows) + 1 and max(map(len, text.splitlines())) < 100


def test_inputs_of_integers_pairs_and_shared_layers():
    model = nn.Sequential(nn.Embedding(20, 4), nn.Compose(lambda layers, x: layers.f(layers.f(x)), f=nn.Linear(4)))
    for found in (nn.summary(model, (7,), dtype="int32"), nn.summary(model, jnp.zeros(7, int))):
        assert [row.params for row in found.rows] == [None, 80, None, 20, 0] and found.params == 100
    pair = nn.summary(nn.Bilinear(3), ((4,), (5,)))
    assert pair.params == 63 and [row.name for row in pair.rows] == ["Bilinear(3)"]
    assert nn.summary(nn.LoRA(nn.Linear(3), 2), 4).params == 15 + 14
