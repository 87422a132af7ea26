"""Losses against PyTorch's figures, their definitions and laws; their masks and weights."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn
from funcgrad.errors import FuncgradError
from tests.nn.losses_in_torch import CASES, LABEL_LENGTHS, LOGIT_LENGTHS, SEQUENCES, TIMED, in_torch

FIGURES = np.load(Path(__file__).with_name("losses_in_torch.npz"))


def ours(name: str) -> dict[str, Any]:
    case = CASES[name]
    first, *rest = case.args

    def total(x: Any) -> tuple[Any, Any]:
        value = case.ours(x, *rest)
        return value.sum(), value

    (_, value), gradient = fg.value_and_grad(total, has_aux=True)(first)
    return {"value": value, "gradient": gradient}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_torch(name):
    with fg.enable_x64():
        for what, found in ours(name).items():
            np.testing.assert_allclose(found, FIGURES[f"{name}: {what}"], rtol=1e-10, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_of_torch(name, torch):
    for what, found in in_torch(CASES[name], torch).items():
        np.testing.assert_allclose(found, FIGURES[f"{name}: {what}"], rtol=1e-10, atol=1e-12)


def test_compiled_losses_are_the_eager_ones():
    names = ("cross_entropy, all", "binary_cross_entropy", "gaussian_nll", "cosine_embedding", "triplet_margin, all")
    with fg.enable_x64():
        compiled = fg.jit(lambda: {name: ours(name) for name in names})()
        for name, found in compiled.items():
            for what, value in found.items():
                np.testing.assert_allclose(value, FIGURES[f"{name}: {what}"], rtol=1e-9, atol=1e-12)


RNG = np.random.default_rng(3)
A, B = RNG.standard_normal((2, 4, 6)) * 2
BINARY = (B > 0) * 1
P = special.expit(A)


@pytest.mark.parametrize(
    "loss, args, expected",
    [
        (nn.log_cosh, (A, B), np.log1p(2 * np.sinh((A - B) / 2) ** 2)),
        (nn.squared_hinge, (A, np.sign(B)), np.maximum(0, 1 - A * np.sign(B)) ** 2),
        (nn.cosine_distance, (A, B), 1 - (A * B).sum(-1) / np.sqrt((A**2).sum(-1) * (B**2).sum(-1))),
        (
            nn.contrastive,
            (A, B, np.array([1, 0, 1, 0])),
            np.where([1, 0, 1, 0], ((A - B) ** 2).sum(-1), np.maximum(0, 1 - np.linalg.norm(A - B, axis=-1)) ** 2) / 2,
        ),
        (
            functools.partial(nn.focal, alpha=0.25),
            (A, BINARY),
            np.where(BINARY, -0.25 * (1 - P) ** 2 * np.log(P), -0.75 * P**2 * np.log1p(-P)),
        ),
        (nn.focal, (A, special.expit(B)), None),
        (nn.dice, (P, BINARY), 1 - (2 * (P * BINARY).sum(-1) + 1) / ((P + BINARY).sum(-1) + 1)),
        (
            functools.partial(nn.poisson_nll, full=True),
            (A, BINARY * 3),
            np.exp(A) - BINARY * 3 * A + special.gammaln(BINARY * 3 + 1),
        ),
    ],
)
def test_losses_are_their_definition(loss, args, expected):
    with fg.enable_x64():
        terms = loss(*args, reduction="none")
        expected = np.asarray(terms) if expected is None else expected
        np.testing.assert_allclose(terms, expected, rtol=1e-12)
        weights, mask = RNG.random(expected.shape), RNG.random(expected.shape) < 0.6
        found = loss(*args, weights=weights, where=mask)
        np.testing.assert_allclose(found, np.average(expected[mask], weights=weights[mask]))
        np.testing.assert_allclose(loss(*args, where=mask, reduction="sum"), expected[mask].sum())
        fg.testing.check_grads(lambda x: loss(x, *args[1:]), (args[0],), order=1)


def test_focal_of_gamma_0_is_binary_cross_entropy():
    with fg.enable_x64():
        for function in (lambda loss: loss(A, BINARY), lambda loss: fg.grad(lambda x: loss(x, BINARY))(A)):
            expected = function(nn.binary_cross_entropy)
            np.testing.assert_allclose(function(lambda *a: nn.focal(*a, gamma=0.0)), expected, rtol=1e-12)


def test_losses_are_finite_far_out():
    """Values and gradients at points where a naive formula overflows or divides by zero."""
    far, zero = jnp.array([-1e4, -1e-4, 0.0, 1e4]), jnp.zeros(4)
    value, gradient = fg.value_and_grad(nn.log_cosh)(far, zero)
    assert np.isfinite(value) and np.allclose(gradient, np.tanh(far) / 4)
    assert np.allclose(fg.hessian(nn.log_cosh)(jnp.zeros(1), jnp.zeros(1)), 1)
    assert np.allclose(nn.log_cosh(far, zero, reduction="none")[1], 5e-9, rtol=1e-4, atol=0)
    for labels in (zero, zero + 1):
        value, gradient = fg.value_and_grad(nn.focal)(far, labels)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        value, gradient = fg.value_and_grad(functools.partial(nn.binary_cross_entropy, from_logits=False))(
            labels, 1 - labels
        )
        assert value == 100 and np.isfinite(gradient).all()
    same = jnp.ones((2, 3))
    for loss in (nn.contrastive, nn.cosine_embedding):
        for labels in (jnp.array([1, 1]), jnp.array([1, 0 if loss is nn.contrastive else -1])):
            assert np.isfinite(fg.grad(loss)(same, same, labels)).all()
            assert np.isfinite(fg.grad(loss)(0 * same, same, labels)).all()


# ---------------------------------------------------------------- masks


def test_excluded_examples_may_have_any_label_and_do_not_count():
    labels, mask = np.array([0, 9, 4, -1]), np.array([True, False, True, False])
    expected = nn.cross_entropy(A[[0, 2]], labels[[0, 2]])
    for compile in (lambda f: f, fg.jit):
        assert np.allclose(compile(lambda x, y: nn.cross_entropy(x, y, where=mask))(A, labels), expected)
    gradient = fg.grad(lambda x: nn.cross_entropy(x, np.array([0, 7, 4, 7]), ignore_index=7))(A)
    assert np.array_equal(np.asarray(gradient).any(-1), mask)
    assert np.isnan(nn.mse(A, B, where=np.zeros(6, bool)))
    x, kept = A[:, 0], np.array([True, True, False, True])
    for loss, args, labels in (
        (nn.binary_cross_entropy, (x,), [0, 1, 7, 1]),
        (nn.focal, (x,), [0, 1, 7, 1]),
        (nn.hinge, (x,), [-1, 1, 0, 1]),
        (nn.contrastive, (A, B), [0, 1, -1, 1]),
        (nn.ctc, (np.tile(TIMED[0], (4, 1, 1)),), [[1], [2], [9], [3]]),
    ):
        labels = np.array(labels)
        expected = loss(*(a[kept] for a in args), labels[kept])
        assert np.allclose(loss(*args, labels, where=kept), expected, rtol=1e-5), loss


# ---------------------------------------------------------------- ctc


def spelled(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label]


def test_ctc_sums_over_all_paths():
    logits = RNG.standard_normal((4, 5, 3))
    labels = [[], [1], [2, 2], [1, 2, 1]]
    p = special.softmax(logits, -1)
    paths = list(itertools.product(range(3), repeat=5))
    sums = [sum(np.prod(p[i, range(5), path]) for path in paths if spelled(path) == labels[i]) for i in range(4)]
    padded, lengths = np.array([[*own, -1, -1, -1][:3] for own in labels]), np.array([len(own) for own in labels])
    with fg.enable_x64():
        loss = functools.partial(nn.ctc, labels=padded, label_lengths=lengths)
        np.testing.assert_allclose(loss(logits, reduction="none"), -np.log(sums), rtol=1e-12)
        assert np.allclose(nn.ctc(logits[3], np.array(labels[3])), -np.log(sums[3]))
        fg.testing.check_grads(loss, (logits,), order=2, modes=["rev"])


def test_ctc_is_the_same_per_sequence_and_in_batches():
    args = (np.float32(TIMED), SEQUENCES, LOGIT_LENGTHS, LABEL_LENGTHS)
    loss = functools.partial(nn.ctc, reduction="none")
    value, gradient = fg.jit(fg.vmap(fg.value_and_grad(loss)))(*args)
    assert np.allclose(value, loss(*args), rtol=1e-5)
    assert np.allclose(gradient, fg.grad(functools.partial(nn.ctc, reduction="sum"))(*args), atol=1e-5)
    assert not np.asarray(gradient)[1, LOGIT_LENGTHS[1] :].any()


def test_ctc_of_too_many_labels_is_infinite_with_a_gradient_of_zero():
    loss = functools.partial(nn.ctc, labels=np.array([[1, 1, 1]] * 2), logit_lengths=np.array([4, 5]), reduction="none")
    logits = RNG.standard_normal((2, 5, 3))
    assert np.isinf(loss(logits)).tolist() == [True, False]
    gradient = np.asarray(fg.grad(lambda x: loss(x).sum())(logits))
    assert np.isfinite(gradient).all() and gradient.any((1, 2)).tolist() == [False, True]


def test_ctc_of_long_sequences_does_not_underflow():
    logits = RNG.standard_normal((300, 8)).astype(np.float16)
    labels = RNG.integers(1, 8, 40)
    with fg.enable_x64():
        expected = nn.ctc(logits.astype(float), labels)
    value, gradient = fg.value_and_grad(nn.ctc)(logits, labels)
    assert value.dtype == np.float16 and np.allclose(value, expected, rtol=2e-3) and np.isfinite(gradient).all()


# ---------------------------------------------------------------- bad input

X, ONES = np.ones((3, 4), np.float32), np.ones(3, int)
FRAMES, SPELLED = np.zeros((2, 5, 4), np.float32), np.array([[1, 2], [3, 1]])

WRONG = {
    "reduction": (lambda: nn.log_cosh(X, X, reduction="avg"), "log_cosh: unknown reduction 'avg'"),
    "shapes": (lambda: nn.triplet_margin(X, X, X[:1]), r"triplet_margin: .* f32\[3,4\] .* f32\[1,4\] differ"),
    "mask of numbers": (lambda: nn.mse(X, X, where=X), r"mse: where is f32\[3,4\]"),
    "mask of another shape": (lambda: nn.mse(X, X, where=ONES > 0), r"mse: where: .* \(3,\) .* \(3, 4\)"),
    "beta": (lambda: nn.smooth_l1(X, X, 0.0), r"smooth_l1: beta is 0.0"),
    "variance": (lambda: nn.gaussian_nll(X, X, -X), r"gaussian_nll: variance -1.0 at index \(0, 0\) is negative"),
    "variances": (lambda: nn.gaussian_nll(X, X, X[0, :3]), r"gaussian_nll: variances: .* \(3,\) .* \(3, 4\)"),
    "label of nll": (lambda: nn.nll(X, ONES + 3), r"nll: label 4 at index \(0,\) .* 4 classes of log_probabilities"),
    "ignored probabilities": (lambda: nn.cross_entropy(X, X, ignore_index=0), "ignore_index is 0 for probabilities"),
    "label of focal": (lambda: nn.focal(X[0], np.array([0, 1, 2, 0])), r"focal: label 2 at index \(2,\)"),
    "gamma": (lambda: nn.focal(X, X, -1.0), "focal: gamma is -1.0"),
    "label of dice": (lambda: nn.dice(X, X.astype(int) * 3), r"dice: label 3 at index \(0, 0\)"),
    "label of squared_hinge": (lambda: nn.squared_hinge(X[0], np.zeros(4, int)), "squared_hinge: label 0 .* -1 nor 1"),
    "label of pairs": (lambda: nn.contrastive(X, X, -ONES), "contrastive: label -1 .* 0 nor 1"),
    "labels of pairs": (lambda: nn.cosine_embedding(X, X, X), r"cosine_embedding: labels f32\[3,4\] .* shape \(3,\)"),
    "p": (lambda: nn.triplet_margin(X, X, X, p=0.5), "triplet_margin: p is 0.5"),
    "ctc: shapes": (lambda: nn.ctc(FRAMES, SPELLED[0]), r"ctc: labels i32\[2\] .* logits f32\[2,5,4\]"),
    "ctc: float labels": (lambda: nn.ctc(FRAMES, SPELLED * 1.0), r"ctc: labels are f32\[2,2\]"),
    "ctc: blank": (lambda: nn.ctc(FRAMES, SPELLED, blank=4), r"ctc: blank is 4"),
    "ctc: blank as label": (lambda: nn.ctc(FRAMES, SPELLED - 1), r"ctc: label 0 at index \(0, 0\) is the blank"),
    "ctc: label": (lambda: nn.ctc(FRAMES, SPELLED + 1), r"ctc: label 4 at index \(1, 0\) .* 4 classes"),
    "ctc: lengths": (lambda: nn.ctc(FRAMES, SPELLED, np.array([5, 6])), r"ctc: logit_lengths has 6 at index \(1,\)"),
    "ctc: one length": (lambda: nn.ctc(FRAMES, SPELLED, None, np.array([2])), r"ctc: label_lengths are i32\[1\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_loss_and_both_values(name):
    call, message = WRONG[name]
    with pytest.raises(FuncgradError, match=message) as caught:
        call()
    assert "\n  fix: " in str(caught.value)


def test_traced_labels_that_are_wrong_make_nan():
    """Value and derivative are NaN for the examples of wrong labels, and right for the others."""
    vectors = jnp.asarray(A[:3])
    cases = [
        (nn.nll, vectors, np.array([0, 6, 2]), [0, 1, 0]),
        (functools.partial(nn.nll, ignore_index=6), vectors, np.array([-1, 6, 2]), [1, 0, 0]),
        (nn.focal, vectors[:, 0], np.array([0, 1, 2]), [0, 0, 1]),
        (nn.squared_hinge, vectors[:, 0], np.array([0, 1, -1]), [1, 0, 0]),
        (functools.partial(nn.cosine_embedding, vectors), vectors + 1, np.array([1, -1, 0]), [0, 0, 1]),
        (nn.ctc, jnp.asarray(TIMED), np.array([[1, 1, 2], [1, 2, 0], [1, 5, 2]]), [0, 1, 1]),
    ]

    def run(labels: list[Any]) -> list[Any]:
        def each(loss: Any, x: Any, y: Any) -> Any:
            return loss(x, y, reduction="none"), fg.grad(lambda x: loss(x, y, reduction="sum"))(x)

        return [each(loss, x, y) for (loss, x, _, _), y in zip(cases, labels, strict=True)]

    for (value, gradient), (loss, *_, wrong) in zip(fg.jit(run)([y for *_, y, _ in cases]), cases, strict=True):
        assert np.isnan(value).tolist() == [bool(w) for w in wrong], loss
        assert np.isnan(gradient).reshape(3, -1).any(-1).tolist() == [bool(w) for w in wrong], loss
