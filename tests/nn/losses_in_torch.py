"""Losses in funcgrad and the same in PyTorch, with their arguments; the first argument is differentiated.

`tools/make_torch_figures.py` writes PyTorch's values and gradients, with which test_losses.py compares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcgrad import nn

RNG = np.random.default_rng(7)
A, B, C = (RNG.standard_normal((6, 5)).round(3) for _ in range(3))
LABELS = np.array([0, 4, 2, 2, 1, 3])
PROBABILITIES = np.exp(B) / np.exp(B).sum(-1, keepdims=True)
CLASS_WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0, 3.0])
SIGNS = np.sign(B)
PAIRS = np.array([1, -1, -1, 1, -1, 1])
TIMED = RNG.standard_normal((3, 8, 5)).round(3)  # (batch, time, classes)
SEQUENCES = np.array([[1, 2, 2], [3, 1, 4], [2, 2, 2]])
LOGIT_LENGTHS, LABEL_LENGTHS = np.array([8, 5, 7]), np.array([3, 1, 3])


class Case(NamedTuple):
    """`theirs` takes torch.nn.functional, and arrays that are PyTorch's."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    args: tuple[Any, ...]


def _plain(ours: Callable[..., Any], name: str, *args: Any, **options: Any) -> Case:
    """A loss with the arguments and defaults of PyTorch's."""
    return Case(
        lambda *a: ours(*a, **options, reduction="none"),
        lambda f, *a: getattr(f, name)(*a, **options, reduction="none"),
        args,
    )


def _cross_entropy(labels: Any, ours: dict[str, Any], theirs: dict[str, Any]) -> Case:
    def in_torch(f: Any, x: Any, y: Any, *weight: Any) -> Any:
        return f.cross_entropy(x, y, *weight, **theirs)

    weights = (CLASS_WEIGHTS,) if ours.pop("class_weights", False) else ()
    return Case(
        lambda x, y, *w: nn.cross_entropy(x, y, class_weights=w[0] if w else None, **ours),
        in_torch,
        (A, labels, *weights),
    )


def _ctc(f: Any, x: Any, labels: Any, *lengths: Any, blank: int = 0) -> Any:
    x = x.log_softmax(-1).transpose(0, 1)
    if not lengths:
        lengths = (labels.new_full((3,), 8), labels.new_full((3,), 3))
    return f.ctc_loss(x, labels, *lengths, blank=blank, reduction="none")


CASES = {
    "mse": _plain(nn.mse, "mse_loss", A, B),
    "mae": _plain(nn.mae, "l1_loss", A, B),
    "huber": _plain(nn.huber, "huber_loss", A, B, delta=0.4),
    "smooth_l1": _plain(nn.smooth_l1, "smooth_l1_loss", A, B, beta=0.4),
    "poisson_nll": _plain(nn.poisson_nll, "poisson_nll_loss", A, np.abs(B).round()),
    "poisson_nll of rates": Case(
        lambda x, y: nn.poisson_nll(x, y, log_input=False),
        lambda f, x, y: f.poisson_nll_loss(x, y, log_input=False),
        (np.exp(A), np.abs(B).round()),
    ),
    "gaussian_nll": Case(
        lambda x, y, v: nn.gaussian_nll(x, y, v, full=True),
        lambda f, x, y, v: f.gaussian_nll_loss(x, y, v, full=True),
        (A, B, np.exp(C)),
    ),
    "gaussian_nll of variances": Case(
        lambda v, x, y: nn.gaussian_nll(x, y, v),
        lambda f, v, x, y: f.gaussian_nll_loss(x, y, v),
        (np.exp(C[:, :1]), A, B),
    ),
    "cross_entropy": _cross_entropy(LABELS, {}, {}),
    "cross_entropy, all": _cross_entropy(
        LABELS,
        {"class_weights": True, "label_smoothing": 0.2, "ignore_index": 2},
        {"label_smoothing": 0.2, "ignore_index": 2},
    ),
    "cross_entropy of probabilities": _cross_entropy(
        PROBABILITIES, {"class_weights": True, "label_smoothing": 0.2}, {"label_smoothing": 0.2}
    ),
    "nll": Case(
        lambda x, y, w: nn.nll(x, y, class_weights=w, ignore_index=4),
        lambda f, x, y, w: f.nll_loss(x, y, w, ignore_index=4),
        (np.log(PROBABILITIES), LABELS, CLASS_WEIGHTS),
    ),
    "binary_cross_entropy": Case(
        lambda x, y, w: nn.binary_cross_entropy(x, y, pos_weight=w),
        lambda f, x, y, w: f.binary_cross_entropy_with_logits(x, y, pos_weight=w),
        (A * 9, PROBABILITIES, CLASS_WEIGHTS),
    ),
    "binary_cross_entropy of probabilities": Case(
        lambda p, y: nn.binary_cross_entropy(p, y, from_logits=False),
        lambda f, p, y: f.binary_cross_entropy(p, y),
        (PROBABILITIES[::-1].copy(), (B > 0) * 1.0),
    ),
    "kl_divergence": Case(
        lambda x, q: nn.kl_divergence(x, q), lambda f, x, q: f.kl_div(x, q, reduction="batchmean"), (A, PROBABILITIES)
    ),
    "kl_divergence of logarithms": Case(
        lambda x, q: nn.kl_divergence(x, q, log_targets=True),
        lambda f, x, q: f.kl_div(x, q, reduction="batchmean", log_target=True),
        (A, np.log(PROBABILITIES)),
    ),
    "cosine_similarity": Case(nn.cosine_similarity, lambda f, a, b: f.cosine_similarity(a, b, -1), (A, B)),
    "cosine_embedding": _plain(nn.cosine_embedding, "cosine_embedding_loss", A, B, PAIRS, margin=0.1),
    "triplet_margin": _plain(nn.triplet_margin, "triplet_margin_loss", A, B, C, margin=0.7),
    "triplet_margin, all": _plain(nn.triplet_margin, "triplet_margin_loss", A, B, C, margin=0.7, p=3.0, swap=True),
    "ctc": Case(lambda *a: nn.losses.ctc(*a, reduction="none"), _ctc, (TIMED, SEQUENCES)),
    "ctc with lengths": Case(
        lambda *a: nn.losses.ctc(*a, reduction="none"), _ctc, (TIMED, SEQUENCES, LOGIT_LENGTHS, LABEL_LENGTHS)
    ),
    "ctc with another blank": Case(
        lambda *a: nn.losses.ctc(*a, blank=3, reduction="none"),
        lambda f, *a: _ctc(f, *a, blank=3),
        (TIMED, SEQUENCES % 3, LOGIT_LENGTHS, LABEL_LENGTHS),
    ),
}


def in_torch(case: Case, torch: Any) -> dict[str, np.ndarray]:
    """Return PyTorch's value of a loss, and the gradient of the sum of its terms."""
    first, *rest = (torch.tensor(np.ascontiguousarray(x)) for x in case.args)
    first.requires_grad_()
    value = case.theirs(torch.nn.functional, first, *rest)
    (gradient,) = torch.autograd.grad(value.sum(), first)
    return {"value": value.detach().numpy(), "gradient": gradient.numpy()}
