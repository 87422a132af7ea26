"""Loss functions.

Each loss has one term per element or example. `reduction` is "mean", "sum" or "none". `weights` multiply the terms, and
the mean is then divided by their sum. Terms where `where` is False count neither in the sum nor in the mean; the mean
of no terms is NaN. Both broadcast to the shape of the terms.

An invalid label (a class index out of range, or an integer other than 0 and 1, or ±1) raises an error if it is
concrete. If it is traced, as under `jit`, the loss and its derivative are NaN. This includes examples of weight 0,
which need a valid label too; `where` excludes terms with any label, and so does `ignore_index`.
"""

from funcgrad.nn.losses.classification import binary_cross_entropy as binary_cross_entropy
from funcgrad.nn.losses.classification import cross_entropy as cross_entropy
from funcgrad.nn.losses.classification import dice as dice
from funcgrad.nn.losses.classification import focal as focal
from funcgrad.nn.losses.classification import hinge as hinge
from funcgrad.nn.losses.classification import kl_divergence as kl_divergence
from funcgrad.nn.losses.classification import nll as nll
from funcgrad.nn.losses.classification import squared_hinge as squared_hinge
from funcgrad.nn.losses.embeddings import contrastive as contrastive
from funcgrad.nn.losses.embeddings import cosine_distance as cosine_distance
from funcgrad.nn.losses.embeddings import cosine_embedding as cosine_embedding
from funcgrad.nn.losses.embeddings import cosine_similarity as cosine_similarity
from funcgrad.nn.losses.embeddings import triplet_margin as triplet_margin
from funcgrad.nn.losses.regression import gaussian_nll as gaussian_nll
from funcgrad.nn.losses.regression import huber as huber
from funcgrad.nn.losses.regression import log_cosh as log_cosh
from funcgrad.nn.losses.regression import mae as mae
from funcgrad.nn.losses.regression import mse as mse
from funcgrad.nn.losses.regression import poisson_nll as poisson_nll
from funcgrad.nn.losses.regression import smooth_l1 as smooth_l1
from funcgrad.nn.losses.sequences import ctc as ctc
