"""Bad input to layers: each message names the layer and its path, what was expected and what was given, and a fix."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn, random
from funcgrad.errors import FuncgradError
from funcgrad.nn import initializers

KEY = random.key(0)
X = jnp.ones((2, 6, 6, 4))
CONV = nn.Conv2d(8, 3)
MODEL = nn.Sequential(body=nn.Sequential(CONV, nn.BatchNorm2d()), out=nn.Linear(3))
PARAMS, STATE = MODEL.init(KEY, (6, 6, 4))[1:]
STATE_DICT = nn.to_torch(MODEL, PARAMS, STATE)


def _changed(entries, path, value):
    """A pytree with another entry; None removes it."""
    label, *rest = path
    if isinstance(entries, tuple):
        return tuple(_changed(x, rest, value) if i == label else x for i, x in enumerate(entries))
    found = dict(entries)
    if rest:
        found[label] = _changed(entries[label], rest, value)
    elif value is None:
        del found[label]
    else:
        found[label] = value
    return found


def apply(params=PARAMS, state=STATE, x=X):
    return lambda: MODEL.apply(params, x, state=state)


def init(layer, *shape):
    return lambda: layer.init_with_state(KEY, shape)


def one(layer, shape, x):
    """Apply a layer that was initialized for a shape."""
    return lambda: layer.apply_with_state(layer.init_with_state(KEY, shape)[1], x, layer.init_with_state(KEY, shape)[2])


def load(changes, model=MODEL, **options):
    """Load a state dict with other entries; None removes one."""
    found = {name: value for name, value in (STATE_DICT | changes).items() if value is not None}
    return lambda: nn.from_torch(model, found, **options)


# what is done, and parts of what the message says
CASES = {
    # parameters
    "a missing parameter": (
        apply(_changed(PARAMS, ("body", 0, "bias"), None)),
        ["Conv2d: no parameter 'bias' in params of keys ['kernel']", "(body: Sequential/[0] Conv2d(8, 3))"],
    ),
    "another parameter": (
        apply(_changed(PARAMS, ("out", "scale"), X)),
        ["Linear: unknown parameter 'scale'", "they are kernel, bias", "(out: Linear(3))"],
    ),
    "a parameter of another shape": (
        apply(_changed(PARAMS, ("body", 0, "bias"), jnp.ones(5))),
        ["Conv2d: parameter 'bias' is f32[5], not of shape (8)", "[0] Conv2d"],
    ),
    "a kernel of a Linear": (
        apply(_changed(PARAMS, ("body", 0, "kernel"), jnp.ones((4, 8)))),
        ["Conv2d: parameter 'kernel' is f32[4,8], not of shape (3, 3, any, 8)"],
    ),
    "integer parameters": (
        apply(_changed(PARAMS, ("out", "bias"), jnp.arange(3))),
        ["Linear: parameter 'bias' is i32[3], not of floats", ".astype(float)"],
    ),
    "parameters of a layer without": (
        lambda: nn.Sequential(nn.PReLU()).apply(({"slope": jnp.ones(1), "bias": X},), X),
        ["PReLU: unknown parameter 'bias'", "they are slope"],
    ),
    # state
    "a missing state": (
        apply(state=_changed(STATE, ("body", 1, "mean"), None)),
        ["BatchNorm2d: no state 'mean' in state of keys ['variance']", "[1] BatchNorm2d()", "or of the last apply"],
    ),
    "a state of other channels": (
        apply(state=_changed(STATE, ("body", 1, "mean"), jnp.ones(5))),
        ["BatchNorm2d: the input f32[2,6,6,8] has 8 features", "running mean f32[5] expects 5"],
    ),
    # inputs
    "other channels": (
        apply(x=X[..., :3]),
        ["Conv2d: the input f32[2,6,6,3] has 3 features", "kernel f32[3,3,4,8] expects 4"],
    ),
    "other channels under jit": (
        lambda: fg.jit(lambda x: apply(x=x)())(X[..., :3]),
        ["Conv2d: the input f32[2,6,6,3]", "(body: Sequential/[0] Conv2d(8, 3))"],
    ),
    "an image without a batch": (
        apply(x=X[0]),
        ["Conv2d: the input f32[6,6,4] has 3 dimensions, not 4", "(batch, height, width, channels)"],
    ),
    "channels in the wrong place": (
        one(nn.Conv1d(2, 3, channels="first"), (4, 9), jnp.ones((2, 9, 4))),
        ["Conv1d: the input f32[2,9,4] has 9 features in axis 1", "expects 4"],
    ),
    "groups": (
        one(nn.Conv1d(4, 3, groups=2), (9, 4), jnp.ones((2, 9, 2))),
        ["has 2 features", "kernel f32[3,2,4] of 2 groups expects 4"],
    ),
    "an image for a sequence": (
        one(nn.MaxPool1d(2), (6, 4), X),
        ["MaxPool1d: the input f32[2,6,6,4] has 4 dimensions, not 3", "(batch, length, channels)"],
    ),
    "a list": (one(CONV, (6, 6, 4), [[1.0]]), ["Conv2d: operand [[1.0]]", "asarray"]),
    "slopes": (one(nn.PReLU(4), (4,), jnp.ones((2, 3))), ["PReLU: the input f32[2,3] has 3 features", "expects 4"]),
    "one input for two": (one(nn.Bilinear(3), ((4,), (5,)), X), ["Bilinear: the input is of type Array", "not a pair"]),
    "features of the second input": (
        one(nn.Bilinear(3), ((4,), (5,)), (jnp.ones((2, 4)), jnp.ones((2, 4)))),
        ["Bilinear: the input f32[2,4] has 4 features", "kernel f32[4,5,3] expects 5"],
    ),
    "one element for statistics": (
        lambda: nn.BatchNorm1d().apply(
            *nn.BatchNorm1d().init(KEY, 3)[1:2], X[:1, 0, 0, :3], state=nn.BatchNorm1d().init(KEY, 3)[2], train=True
        ),
        ["BatchNorm1d: the input f32[1,3] has 1 elements for each channel", "larger batches"],
    ),
    "no space": (one(nn.InstanceNorm(), (3,), jnp.ones((2, 3))), ["InstanceNorm: the input f32[2,3] has no spatial"]),
    "channels in groups": (one(nn.GroupNorm(3), (5, 4), X[0]), ["GroupNorm: 4 channels of f32[6,6,4] in 3 groups"]),
    "channels for pixels": (init(nn.PixelShuffle(3), 2, 2, 4), ["PixelShuffle: the input", "4 channels", "of 9"]),
    # init
    "a shape of another rank": (
        init(nn.Sequential(nn.relu, nn.Conv2d(8, 3)), 28, 28),
        ["Conv2d: in_shape (28, 28) has 2 dimensions, not 3", "(height, width, channels)", "([1] Conv2d(8, 3))"],
    ),
    "features in groups": (init(nn.Conv1d(4, 3, groups=2), 9, 3), ["Conv1d: 3 input features in 2 groups"]),
    "one shape for two": (init(nn.Bilinear(3), 4), ["Bilinear: in_shape (4,) is not a pair of shapes"]),
    # options
    "channels in the middle": (lambda: nn.Conv2d(8, 3, channels="middle"), ["Conv2d: channels is 'middle'", "'first'"]),
    "kernel of another rank": (lambda: nn.Conv2d(8, (3, 3, 3)), ["Conv2d: kernel_size is (3, 3, 3)", "of 2"]),
    "a stride of 0": (lambda: nn.AvgPool2d(2, strides=0), ["AvgPool2d: strides is 0", "at least 1"]),
    "padding by name": (lambda: nn.Conv1d(8, 3, padding="half"), ["Conv1d: padding is 'half'", "'SAME'"]),
    "padding of another rank": (lambda: nn.Conv1d(8, 3, padding=[(1, 1)] * 2), ["Conv1d: padding is [(1, 1), (1, 1)]"]),
    "groups of features": (lambda: nn.Conv1d(8, 3, groups=3), ["Conv1d: 8 features in 3 groups", "divide"]),
    "momentum": (lambda: nn.BatchNorm1d(momentum=2), ["BatchNorm1d: momentum is 2", "[0, 1]"]),
    "scale and size": (lambda: nn.Upsample(2, size=4), ["Upsample: scale is 2 and size is 4"]),
    "a method": (lambda: nn.Upsample(2, method="cubist"), ["unknown method 'cubist'"]),
    "corners of the nearest": (lambda: nn.Upsample(2, align_corners=True), ["align_corners with method 'nearest'"]),
    "LoRA of a convolution": (lambda: nn.LoRA(CONV, 2), ["LoRA: the layer is Conv2d(8, 3)", "adapts a Linear"]),
    "weights of a norm with state": (
        lambda: nn.WeightNorm(nn.BatchNorm1d()),
        ["WeightNorm: the layer is BatchNorm1d()"],
    ),
    "a kernel that is none": (
        init(nn.SpectralNorm(nn.Embedding(4, 3)), 2),
        ["no parameter 'kernel' in params of keys"],
    ),
    "the identity of a window": (
        init(nn.Conv1d(3, 3, kernel_init=initializers.identity()), 5, 3),
        ["identity: shape (3, 3, 3)", "dirac"],
    ),
    "dirac of a matrix": (init(nn.Linear(3, kernel_init=initializers.dirac()), 3), ["dirac: shape (3, 3) is not"]),
    # from and to PyTorch
    "a missing tensor": (
        load({"out.bias": None}),
        ["from_torch: the state dict lacks 'out.bias', which the model needs"],
    ),
    "an unknown tensor": (load({"head.bias": X}), ["the state dict has 'head.bias', which the model does not have"]),
    "a renamed tensor": (
        load({"out.bias": None, "output.bias": X}),
        ["lacks 'out.bias', and has 'output.bias'", "'output.bias' may be 'out.bias'", "rename="],
    ),
    "a tensor of another rank": (
        load({"out.weight": X}),
        ["'out.weight' has shape (2, 6, 6, 4)", "does not fit out/kernel"],
    ),
    "a tensor of another size": (
        load({"out.weight": np.ones((3, 5))}, in_shape=(6, 6, 4)),
        ["'out.weight' of shape (3, 5) gives out/kernel the shape (5, 3), and the model has (8, 3)"],
    ),
    "no state for PyTorch": (
        lambda: nn.to_torch(MODEL, PARAMS),
        ["to_torch: no state", "to_torch(model, params, state)"],
    ),
    "a layer that PyTorch does not have": (
        lambda: nn.to_torch(nn.Sequential(nn.Layer(lambda *_: ((), ()), lambda *_: X, "Mine()")), ({"w": X},)),
        ["to_torch: no tensor holds '0/w'", "torch_tensors"],
    ),
    "params of another model": (
        lambda: nn.to_torch(nn.Linear(3), PARAMS),
        ["to_torch: no tensor holds 'body/0/kernel'"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_messages_name_the_layer_what_was_given_and_a_fix(name):
    call, parts = CASES[name]
    with pytest.raises(FuncgradError) as caught:
        call()
    message = str(caught.value)
    for part in [*parts, "at test_layers_bad_input.py:", "\n  fix: "]:
        assert part in message, message


def test_what_is_right_passes():
    """The other cases change one thing each."""
    y, state = apply()()
    assert y.shape == (2, 6, 6, 3) and state == STATE
    params, state = load({}, in_shape=(6, 6, 4))()
    assert fg.tree.structure((params, state)) == fg.tree.structure((PARAMS, STATE))
    renamed = {name.replace("out.", "fc."): value for name, value in STATE_DICT.items()}
    params, _ = nn.from_torch(MODEL, renamed, rename={"fc": "out"})
    assert np.array_equal(params["out"]["kernel"], PARAMS["out"]["kernel"])
