"""Bad input to nn and data: each message names the operation, the values, the line and a fix."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import data, errors, nn, random
from funcgrad.nn import initializers

KEY = random.key(0)
X = jnp.ones((5, 4))
LOGITS = jnp.zeros((5, 2))
LABELS = jnp.array([0, 1, 0, 1, 0])
MODEL = nn.Sequential(nn.Linear(3), nn.relu, nn.Sequential(nn.Linear(2), nn.LayerNorm()))
PARAMS = MODEL.init(KEY, (4,))[1]
WRONG_LABELS = LABELS + 5
TABLE = {"table": jnp.ones((5, 3))}


def with_label(label, loss=nn.cross_entropy, x=LOGITS):
    return lambda: loss(x, jnp.full(x.shape[:1], label))


# what is done, and parts of what the message says: the operation with both values, then the remedy
CASES = {
    # labels and row numbers
    "label too large": (
        with_label(7),
        ["cross_entropy: label 7 at index (0,)", "2 classes of logits f32[5,2]", "labels are from 0"],
    ),
    "label negative": (with_label(-1), ["cross_entropy: label -1 at index (0,)", "a weight of 0"]),
    "one label of many": (lambda: nn.cross_entropy(LOGITS, LABELS.at[3].set(2)), ["label 2 at index (3,)"]),
    "a single label": (
        lambda: nn.cross_entropy(jnp.zeros(3), 3),
        ["cross_entropy: label 3 is not one of the 3 classes"],
    ),
    "label under grad": (lambda: fg.grad(lambda x: nn.cross_entropy(x, jnp.full(5, 2)))(LOGITS), ["label 2 at index"]),
    "label closed over": (lambda: fg.jit(lambda x: nn.cross_entropy(x, WRONG_LABELS))(LOGITS), ["label 5 at index"]),
    "float labels": (with_label(1.0), ["cross_entropy: labels f32[5]", "logits f32[5,2]", "labels.astype(int)"]),
    "labels as a column": (
        lambda: nn.cross_entropy(LOGITS, LABELS[:, None]),
        ["labels i32[5,1]", "f32[5,2]", "without the last axis"],
    ),
    "labels as a list": (
        lambda: nn.cross_entropy(LOGITS, [0, 1, 0, 1, 0]),
        ["cross_entropy: operand [0, 1, 0, 1, 0]", "asarray"],
    ),
    "logits of no classes": (lambda: nn.cross_entropy(jnp.float32(1), 0), ["labels i32[]", "logits f32[]"]),
    "binary label": (
        with_label(2, nn.binary_cross_entropy, X[:, 0]),
        ["binary_cross_entropy: label 2 at index (0,)", "0 or 1", "use cross_entropy"],
    ),
    "hinge label": (
        with_label(0, nn.hinge, X[:, 0]),
        ["hinge: label 0 at index (0,) is neither -1 nor 1", "2 * labels - 1"],
    ),
    "row number": (
        lambda: nn.Embedding(5, 3).apply(TABLE, jnp.array([0, 5])),
        ["Embedding: the input has 5 at index (1,)", "table f32[5,3] has rows 0 to 4", "count"],
    ),
    "negative row number": (lambda: nn.Embedding(5, 3).apply(TABLE, jnp.array([-1])), ["Embedding: the input has -1"]),
    "float row number": (
        lambda: nn.Embedding(5, 3).apply(TABLE, jnp.array([1.0])),
        ["Embedding: the input f32[1]", ".astype(int)"],
    ),
    "one_hot of no classes": (lambda: nn.one_hot(LABELS, -3), ["one_hot: shape (-3,) has a negative size"]),
    "one_hot of half a class": (lambda: nn.one_hot(LABELS, 2.5), ["one_hot: num_classes is 2.5", "pass an integer"]),
    # options of losses
    "smoothing": (lambda: nn.cross_entropy(LOGITS, LABELS, label_smoothing=2.0), ["label_smoothing is 2.0", "[0, 1]"]),
    "smoothing as text": (
        lambda: nn.cross_entropy(LOGITS, LABELS, label_smoothing="0.1"),
        ["cross_entropy: label_smoothing is '0.1' of type str", "pass a number"],
    ),
    "class weights": (
        lambda: nn.cross_entropy(LOGITS, LABELS, class_weights=jnp.ones(3)),
        ["class_weights have shape (3,)", "f32[5,2]", "each of the 2 classes"],
    ),
    "weights": (lambda: nn.mse(X, X, weights=jnp.ones(3)), ["mse: weights", "(3,)", "(5, 4)"]),
    "delta": (lambda: nn.huber(X, X, -1.0), ["huber: delta is -1.0", "[0, inf)"]),
    # making layers
    "layer without its call": (lambda: nn.Sequential(nn.Linear(3), nn.Relu), ["Sequential: layer 1", "Relu", "Relu()"]),
    "layers as a list": (lambda: nn.Sequential([nn.Linear(3)]), ["layer 0 is [Linear(3)] of type list", "(*layers)"]),
    "layer by name": (lambda: nn.Sequential("relu"), ["layer 0 is 'relu' of type str", "nn.relu"]),
    "layer of a number": (lambda: nn.Sequential(3), ["layer 0 is 3 of type int", "nn.Linear(3)"]),
    "features as text": (lambda: nn.Linear("3"), ["Linear: features is '3' of type str", "integer"]),
    "half a feature": (lambda: nn.Linear(3.5), ["Linear: features is 3.5 of type float"]),
    "no features": (lambda: nn.Linear(0), ["Linear: features is 0", "at least 1"]),
    "no rows": (lambda: nn.Embedding(0, 3), ["Embedding: count is 0"]),
    "rate as text": (lambda: nn.Dropout("0.5"), ["Dropout: rate", "'0.5' of type str"]),
    "rate above 1": (lambda: nn.Dropout(1.5), ["Dropout: rate", "is 1.5", "[0, 1)"]),
    "initializer uncalled": (
        lambda: nn.Linear(3, kernel_init=initializers.he_normal).init(KEY, 4),
        ["Linear: kernel_init is a function that returned", "for shape (4, 3)", "he_normal()"],
    ),
    "initializer by name": (
        lambda: nn.Linear(3, kernel_init="he").init(KEY, 4),
        ["kernel_init is 'he'", "(key, shape"],
    ),
    "initializer of another shape": (
        lambda: nn.Linear(3, bias_init=lambda *_: X).init(KEY, 4),
        ["bias_init", "for shape (3,)"],
    ),
    # init
    "no key": (lambda: MODEL.init(0, (4,)), ["Sequential: init: 0 is not a key", "random.key(seed)"]),
    "key and shape swapped": (
        lambda: MODEL.init(4, KEY),
        ["Sequential: init: in_shape is a key", "init(key, in_shape)"],
    ),
    "shape of text": (lambda: MODEL.init(KEY, "4"), ["Sequential: init: a size in shape is '4' of type str"]),
    "negative shape": (lambda: MODEL.init(KEY, -4), ["Sequential: init: shape (-4,) has a negative size"]),
    "scalar input": (lambda: MODEL.init(KEY, ()), ["Linear: the input is a scalar", "([0] Linear(3))"]),
    # apply
    "model called": (lambda: MODEL(X), ["Sequential: a layer cannot be called", "model.apply(params, x)"]),
    "input of other features": (
        lambda: MODEL.apply(PARAMS, X[:, :3]),
        [
            "Linear: the input f32[5,3] has 3 features",
            "kernel f32[4,3] expects 4",
            "([0] Linear(3))",
            "(batch, *in_shape)",
        ],
    ),
    "input of other features under jit": (
        lambda: fg.jit(MODEL.apply)(PARAMS, X[:, :3]),
        ["([0] Linear(3)), while tracing jit(apply)"],
    ),
    "layer within a layer": (
        lambda: MODEL.apply([*PARAMS[:2], [PARAMS[0], PARAMS[2][1]]], X),
        ["Linear: parameter 'kernel' is f32[4,3], not of shape (any, 2)", "([2] Sequential/[0] Linear(2))"],
    ),
    "error of an activation": (lambda: nn.Sequential(nn.relu, nn.glu).apply([(), ()], X[:, :3]), ["glu", "([1] glu)"]),
    "norm of other features": (
        lambda: nn.LayerNorm().apply(nn.LayerNorm().init(KEY, 4)[1], X[:, :1]),
        ["LayerNorm: the input f32[5,1] has 1 features", "scale f32[4] expects 4"],
    ),
    "input of lists": (lambda: MODEL.apply(PARAMS, [[1.0] * 4]), ["Linear: operand [[1.0", "asarray"]),
    "flatten a number": (lambda: nn.Flatten().apply((), 1.0), ["Flatten: the input f32[]", "(batch, *in_shape)"]),
    "params and input swapped": (
        lambda: MODEL.apply(X, PARAMS),
        ["Sequential: params of type Array for 3 layers", "out_shape, params ="],
    ),
    "all that init returned": (
        lambda: MODEL.apply(MODEL.init(KEY, 4), X),
        ["params of 2 layers for 3", "model.init"],
    ),
    "params of another layer": (
        lambda: nn.Linear(3).apply((), X),
        ["Linear: no parameter 'kernel' in params of type tuple", "model.init"],
    ),
    "params renamed": (lambda: nn.Linear(3).apply({"weight": X}, X), ["no parameter 'kernel'", "keys ['weight']"]),
    "params no array": (
        lambda: nn.Linear(3, bias=False).apply({"kernel": "w"}, X),
        ["Linear: parameter 'kernel': operand 'w'"],
    ),
    "training without key": (
        lambda: nn.Sequential(nn.Dropout(0.5)).apply([()], X, train=True),
        ["Dropout: training needs a key", "([0] Dropout(0.5))", "key=key"],
    ),
    # minibatches
    "size above the data": (
        lambda: data.batches(KEY, X, 8),
        ["batches: size 8 exceeds the 5 examples", "at most 5", "drop_last=False"],
    ),
    "size of 0": (lambda: data.batches(KEY, X, 0), ["batches: size 0", "at least one"]),
    "size as a float": (lambda: data.batches(KEY, X, 2.0), ["batches: size is 2.0 of type float", "integer"]),
    "size as text": (lambda: data.batches(KEY, X, "2"), ["batches: size is '2' of type str"]),
    "no examples": (lambda: data.batches(KEY, X[:0], 2), ["no examples", "(0, 4)"]),
    "no arrays": (lambda: data.batches(KEY, {}, 2), ["there are no arrays"]),
    "a scalar": (lambda: data.batches(KEY, 3.0, 2), ["the array has shape ()", "same first axis"]),
    "lists of numbers": (lambda: data.batches(KEY, {"x": [1, 2]}, 1), ["['x'][0] has shape ()", "np.asarray"]),
    "other lengths": (
        lambda: data.batches(KEY, {"x": X, "y": LABELS[:3]}, 2),
        ["['x'] has shape (5, 4)", "['y'] has shape (3,)"],
    ),
    "seed for a key": (lambda: data.batches(0, X, 2), ["batches: 0 is not a key", "random.key(seed)"]),
    "minibatches under jit": (
        lambda: fg.jit(lambda x: list(data.batches(None, x, 2)))(X),
        ["batches", "outside of jit"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_messages_name_operation_values_line_and_remedy(name):
    call, parts = CASES[name]
    with pytest.raises(errors.FuncgradError) as caught:
        call()
    message = str(caught.value)
    for part in [*parts, "at test_bad_input.py:", "\n  fix: "]:
        assert part in message, message


# ---------------------------------------------------------------- wrong labels that are traced


@pytest.mark.parametrize(
    "loss, x, labels",
    [
        (nn.cross_entropy, X, [0, 3, 4, -1, 2]),
        (lambda x, labels, **kw: nn.cross_entropy(x, labels, class_weights=jnp.arange(4.0), **kw), X, [0, 3, 4, -1, 2]),
        (lambda x, labels, **kw: nn.cross_entropy(x, labels, label_smoothing=0.1, **kw), X, [0, 3, 4, -1, 2]),
        (nn.binary_cross_entropy, X[:, 0], [0, 1, 2, -1, 1]),
        (nn.hinge, X[:, 0], [1, -1, 0, 2, 1]),
    ],
)
@pytest.mark.parametrize("transform", [fg.jit, lambda f: fg.jit(fg.vmap(f)), lambda f: fg.vmap(fg.jit(f))])
def test_traced_labels_that_are_wrong_make_nan(loss, x, labels, transform):
    """Value and derivative are NaN for the examples of wrong labels, and right for the others."""
    one = lambda x, label: fg.value_and_grad(loss)(x, label, reduction="none")  # noqa: E731
    batched = transform is fg.jit
    labels = np.int32(labels)
    value, slope = (fg.jit(fg.vmap(one)) if batched else transform(one))(x, labels)
    wrong = [False, False, True, True, False]
    assert np.isnan(value).tolist() == wrong
    assert np.isnan(np.asarray(slope).reshape(5, -1)).all(1).tolist() == wrong
    assert np.isfinite(np.asarray(slope)[[0, 1, 4]]).all()
    right = one(x[4], jnp.int32(labels[4]))
    assert np.allclose(value[4], right[0]) and np.allclose(slope[4], right[1])


def test_traced_row_numbers_that_are_wrong_make_nan():
    layer = nn.Embedding(5, 3)
    rows = fg.jit(layer.apply)(TABLE, np.int32([[0, 5], [4, -1]]))
    assert np.isnan(rows).all(-1).tolist() == [[False, True], [False, True]] and np.isnan(rows).sum() == 6
    slope = fg.jit(fg.grad(lambda p, ids: layer.apply(p, ids).sum()))(TABLE, np.int32([0, 5]))["table"]
    assert np.isnan(slope[4]).all() and slope[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("wrong", [-1, 3, 100])
def test_one_hot_of_invalid_numbers_is_zero_known_or_traced(wrong):
    for function in (nn.one_hot, fg.jit(nn.one_hot, static_argnums=1)):
        assert function(jnp.array([wrong, 1]), 3).tolist() == [[0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32"])
def test_classes_may_be_more_than_the_type_of_labels_counts(dtype):
    """Compared in int8, label 5 would be equal to class 261 as well."""
    labels = np.array([5, 100], dtype)
    assert np.argwhere(nn.one_hot(labels, 300)).tolist() == [[0, 5], [1, 100]]
    for function in (nn.cross_entropy, fg.jit(nn.cross_entropy)):
        assert np.allclose(function(jnp.zeros((2, 300)), labels), np.log(300))
    table = {"table": jnp.arange(300.0)[:, None]}
    for apply in (nn.Embedding(300, 1).apply, fg.jit(nn.Embedding(300, 1).apply)):
        assert apply(table, labels).tolist() == [[5], [100]]


# ---------------------------------------------------------------- the obvious meaning


def test_a_function_is_an_activation_layer():
    model = nn.Sequential(nn.Linear(6), nn.glu, lambda x: x**2)
    shape, params = model.init(KEY, (4,))
    kernel = np.asarray(params[0]["kernel"])
    assert shape == (3,) and params[1:] == ((), ())
    assert np.allclose(model.apply(params, X), nn.glu(X @ kernel) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    "in_shape", [(4,), [4], 4, np.int64(4), X[0], np.ones(4), fg.ShapeDtypeStruct((4,), "float32")]
)
def test_init_takes_shapes_sizes_and_examples(in_shape):
    shape, params = MODEL.init(KEY, in_shape)
    assert shape == (2,) and fg.tree.all(fg.tree.map(np.array_equal, params, PARAMS))


def test_layers_print_as_they_were_made_and_unpack():
    model = nn.Sequential(
        nn.Linear(8, bias=False), nn.Relu(), nn.tanh, nn.Sequential(nn.Dropout(0.5), nn.Gelu(approximate=False))
    )
    assert str(model).splitlines() == [
        "Sequential(",
        "  [0] Linear(8, bias=False)",
        "  [1] Relu()",
        "  [2] tanh",
        "  [3] Sequential(",
        "    [0] Dropout(0.5)",
        "    [1] Gelu(approximate=False)",
        "  )",
        ")",
    ]
    assert str(nn.Linear(3, kernel_init=initializers.zeros)) == "Linear(3, kernel_init=zeros)"
    init, apply = nn.Linear(3)
    assert apply(init(KEY, 4)[1], X).shape == (5, 3)
