"""Layers of activations: the functions with the options of the layer, against PyTorch where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from funcgrad import nn, random

X = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32) * 4

# layer, the same function, and the class and options in PyTorch
CASES = {
    "Relu()": (nn.Relu(), nn.relu, "ReLU", {}),
    "Relu6()": (nn.Relu6(), nn.relu6, "ReLU6", {}),
    "LeakyRelu(0.2)": (nn.LeakyRelu(0.2), lambda x: nn.leaky_relu(x, 0.2), "LeakyReLU", {"negative_slope": 0.2}),
    "Elu(alpha=0.5)": (nn.Elu(alpha=0.5), lambda x: nn.elu(x, 0.5), "ELU", {"alpha": 0.5}),
    "Selu()": (nn.Selu(), nn.selu, "SELU", {}),
    "Celu(0.5)": (nn.Celu(0.5), lambda x: nn.celu(x, 0.5), "CELU", {"alpha": 0.5}),
    "Gelu()": (nn.Gelu(), nn.gelu, "GELU", {"approximate": "tanh"}),
    "Gelu(approximate=False)": (nn.Gelu(approximate=False), lambda x: nn.gelu(x, approximate=False), "GELU", {}),
    "Silu()": (nn.Silu(), nn.silu, "SiLU", {}),
    "Mish()": (nn.Mish(), nn.mish, "Mish", {}),
    "Sigmoid()": (nn.Sigmoid(), nn.sigmoid, "Sigmoid", {}),
    "LogSigmoid()": (nn.LogSigmoid(), nn.log_sigmoid, "LogSigmoid", {}),
    "Tanh()": (nn.Tanh(), nn.tanh, "Tanh", {}),
    "Softplus()": (nn.Softplus(), nn.softplus, "Softplus", {}),
    "SoftSign()": (nn.SoftSign(), nn.softsign, "Softsign", {}),
    "Squareplus()": (nn.Squareplus(), nn.squareplus, None, {}),
    "HardSigmoid()": (nn.HardSigmoid(), nn.hard_sigmoid, "Hardsigmoid", {}),
    "HardTanh()": (nn.HardTanh(), nn.hard_tanh, "Hardtanh", {}),
    "HardSwish()": (nn.HardSwish(), nn.hard_swish, "Hardswish", {}),
    "Softmax()": (nn.Softmax(), nn.softmax, "Softmax", {"dim": -1}),
    "LogSoftmax()": (nn.LogSoftmax(), nn.log_softmax, "LogSoftmax", {"dim": -1}),
    "Glu()": (nn.Glu(), nn.glu, "GLU", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_layers_apply_their_function(name):
    layer, function, *_ = CASES[name]
    shape, params = layer.init(random.key(0), (6,))
    y = layer.apply(params, X)
    assert layer.name == name and params == () and y.shape == (3, *shape)
    assert np.array_equal(y, function(X))


@pytest.mark.torch
def test_layers_are_those_of_torch(torch):
    for name, (layer, _, theirs, options) in CASES.items():
        if theirs:
            expected = getattr(torch.nn, theirs)(**options)(torch.tensor(X))
            np.testing.assert_allclose(layer.apply((), X), expected, rtol=1e-5, atol=1e-6, err_msg=name)
