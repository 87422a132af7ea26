"""Neural networks as scikit-learn estimators.

>>> import numpy as np
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> from funcgrad.sklearn import FuncgradClassifier
>>> x = np.random.default_rng(0).normal(size=(200, 2))
>>> y = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
>>> pipeline = make_pipeline(StandardScaler(), FuncgradClassifier(hidden=(32,), learning_rate=0.02, random_state=0))
>>> bool(pipeline.fit(x, y).score(x, y) > 0.95)
True
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import data, nn, optim, random, train, tree
from funcgrad.arguments.axes import as_int, as_number
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, DependencyError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.train.state import apply
from funcgrad.transforms.jit import jit

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError:
    raise DependencyError(
        "funcgrad.sklearn needs scikit-learn 1.6 or later, which is not installed",
        fix="pip install funcgrad[sklearn]",
    ) from None

Loss = Callable[[Any, Any], Any]


def _cross_entropy(outputs: Any, batch: Any) -> Any:
    return jnp.mean(batch["w"] * nn.cross_entropy(outputs, batch["y"], reduction="none"))


def _squares(outputs: Any, batch: Any) -> Any:
    return jnp.mean(batch["w"] * jnp.mean((outputs - batch["y"]) ** 2, axis=-1))


def _multilayer_perceptron(hidden: tuple[int, ...], activation: str, outputs: int) -> Any:
    function = getattr(nn, activation)
    layers = [layer for width in hidden for layer in (nn.Linear(width), function)]
    return nn.Sequential(*layers, nn.Linear(outputs))


@functools.lru_cache(maxsize=64)
def _network(model: Any, hidden: tuple[int, ...], activation: str, outputs: int) -> tuple[Any, Callable[..., Any]]:
    """Return a model, and its compiled application. Fits with the same options share compiled programs."""
    layer = _multilayer_perceptron(hidden, activation, outputs) if model is None else model(outputs)
    return layer, jit(lambda params, layer_state, x: apply(layer, params, layer_state, x)[0])


@functools.lru_cache(maxsize=64)
def _training(model: Any, loss: Loss, learning_rate: float, weight_decay: float) -> tuple[Any, Any]:
    """Return an optimizer and a compiled step."""
    optimizer = optim.adamw(learning_rate, weight_decay=weight_decay)
    return optimizer, train.make_step(model, optimizer, loss)


class _Estimator(BaseEstimator):
    """What the classifier and the regressor share."""

    def __init__(
        self,
        hidden: Sequence[int] = (64,),
        *,
        activation: str = "relu",
        model: Callable[[int], Any] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 200,
        epochs: int = 200,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        verbose: bool = False,
        random_state: Any = None,
    ):
        self.hidden = hidden
        self.activation = activation
        self.model = model
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.verbose = verbose
        self.random_state = random_state

    # ------------------------------------------------------------ fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit to inputs X (examples, features) and targets y, and return self. Examples of weight 0 are left out."""
        return self._fit(X, y, sample_weight, start=True, epochs=self.epochs)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, start: bool, epochs: int, classes: Any = None) -> Any:
        """Fit for some epochs, from the start or from where the last fit ended."""
        self._check_options()
        numeric = isinstance(self, RegressorMixin)
        X, y = validate_data(
            self, X, y, dtype=(np.float64, np.float32), multi_output=True, y_numeric=numeric, reset=start
        )
        weights = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        used = weights > 0
        if not used.any():
            raise ArgumentError(f"{type(self).__name__}: all sample weights are 0", fix="give one a positive weight")
        y = self._encode(y, weights, start, classes)
        examples = {"x": X[used], "y": y[used], "w": weights[used] / weights[used].mean()}
        with enable_x64(X.dtype == np.float64):
            self._train(examples, start, epochs)
        return self

    def _train(self, examples: dict[str, np.ndarray], start: bool, epochs: int) -> None:
        features, outputs = examples["x"].shape[1], self._outputs()
        model, _ = _network(self.model, tuple(self.hidden), self.activation, outputs)
        optimizer, step = _training(model, self._loss, float(self.learning_rate), float(self.weight_decay))
        if start:
            self._seed = int(check_random_state(self.random_state).randint(1 << 31))
            self.state_ = train.init(model, optimizer, random.key(self._seed), (features,))
            self._check_model(model, features, outputs)
            self.n_epochs_ = 0
        key = random.fold_in(random.key(self._seed), 1 + self.n_epochs_)
        options: dict[str, Any] = {}
        if start and self.early_stopping and epochs > 1:
            examples, options = self._held_out(key, model, examples)
        count = len(examples["x"])
        shuffled = count > self.batch_size
        loader = data.DataLoader(examples, min(self.batch_size, count), key=key if shuffled else None)
        result = train.fit(step, self.state_, loader, epochs=epochs, progress=self.verbose, **options)
        # NumPy arrays, which every process can unpickle.
        self.state_ = tree.map(np.asarray, result.state._replace(key=random.key_data(result.state.key)))
        self.n_epochs_ += len(result.history)
        self.history_ = result.history

    def _held_out(self, key: Any, model: Any, examples: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return training examples, and the options of fit that stop early by the loss of the others."""
        share = as_number(self.validation_fraction, "validation_fraction", type(self).__name__, "(0, 1)")
        labels = examples["y"] if examples["y"].dtype.kind == "i" else None
        parts = data.random_split(key, examples, [1 - share, share], stratify=labels)
        if not all(map(len, parts)):
            raise ArgumentError(
                f"{type(self).__name__}: validation_fraction {share} of {len(examples['x'])} examples leaves none",
                fix="use early_stopping=False for so few examples",
            )
        training, validation = (part.arrays() for part in parts)
        evaluate = train.evaluator(model, data.DataLoader(validation, self.batch_size), loss=self._loss)
        return training, {"evaluate": evaluate, "callbacks": [train.EarlyStopping(patience=self.patience)]}

    def _check_options(self) -> None:
        name = type(self).__name__
        for what in ("batch_size", "epochs", "patience"):
            if as_int(getattr(self, what), what, name) < 1:
                raise ArgumentError(f"{name}: {what} is {getattr(self, what)}", fix="it must be at least 1")
        for width in self.hidden:
            if as_int(width, "a width in hidden", name) < 1:
                raise ArgumentError(f"{name}: hidden is {self.hidden}", fix="pass positive widths, such as (64, 64)")
        as_number(self.learning_rate, "learning_rate", name, "(0, inf)")
        as_number(self.weight_decay, "weight_decay", name, "[0, inf)")
        if not callable(getattr(nn, self.activation, None)):
            raise ArgumentError(
                f"{name}: unknown activation {self.activation!r}",
                fix="use the name of one in funcgrad.nn, such as 'relu'",
            )

    def _check_model(self, model: Any, features: int, outputs: int) -> None:
        shape = tuple(model.init(random.key(0), (features,))[0]) if self.model is not None else (outputs,)
        if shape != (outputs,):
            raise ArgumentError(
                f"{type(self).__name__}: the model returns {shape} per example, not ({outputs},)",
                fix="`model` is a function from the number of outputs to a layer",
            )

    # ------------------------------------------------------------ predictions

    def _outputs_for(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        _, forward = _network(self.model, tuple(self.hidden), self.activation, self._outputs())
        with enable_x64(X.dtype == np.float64):
            return np.asarray(forward(self.state_.params, self.state_.layer_state, X))

    # ------------------------------------------------------------ what a subclass defines

    _loss: Loss

    @abc.abstractmethod
    def _encode(self, y: np.ndarray, weights: np.ndarray, start: bool, classes: Any) -> np.ndarray:
        """Return the targets of the loss."""

    @abc.abstractmethod
    def _outputs(self) -> int:
        """Return the number of outputs of the network."""


_PARAMETERS = """
    Args:
      hidden: the widths of the hidden layers.
      activation: the name of an activation in `funcgrad.nn`.
      model: a function from the number of outputs to a layer, instead of `hidden` and `activation`. For pickling,
        define it at the top of a module.
      learning_rate, weight_decay: those of AdamW.
      batch_size: the number of examples of a step; all examples if there are fewer.
      epochs: the number of passes over the examples.
      early_stopping: hold out `validation_fraction` of the examples, and return to the best epoch when the loss on them
        has not improved for `patience` epochs.
      verbose: show a progress bar.
      random_state: a seed, or NumPy's RandomState; of the initial parameters and of the order of the examples.

    Inputs should be standardized. Computations are in the dtype of X, float64 or float32. After fitting, `state_` is
    the `train.TrainState`, `history_` the metrics per epoch, and `n_epochs_` the number of epochs.
"""


class FuncgradClassifier(ClassifierMixin, _Estimator):
    __doc__ = f"""A multilayer perceptron, or another model, that minimizes the cross-entropy by AdamW.
{_PARAMETERS}"""

    _loss = staticmethod(_cross_entropy)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Do one epoch, and return self. The first call needs all `classes`."""
        start = not hasattr(self, "state_")
        if start and classes is None:
            raise ArgumentError(
                "partial_fit: no classes in the first call", fix="pass classes=np.unique(y) of all targets"
            )
        return self._fit(X, y, sample_weight, start=start, epochs=1, classes=classes)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each example."""
        logits = self._outputs_for(X)
        return self.classes_[logits.argmax(-1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes, (examples, classes), in the order of `classes_`."""
        logits = self._outputs_for(X)
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    def _encode(self, y: np.ndarray, weights: np.ndarray, start: bool, classes: Any) -> np.ndarray:
        """Return indices of classes."""
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if start:
            self.classes_ = np.unique(y if classes is None else classes)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ArgumentError(
                f"{type(self).__name__}: target {unknown.tolist()[0]!r} is not among the classes {self.classes_!r:.80}",
                fix="pass all classes to the first call of partial_fit",
            )
        return np.searchsorted(self.classes_, y).astype(np.int32)

    def _outputs(self) -> int:
        return len(self.classes_)


class FuncgradRegressor(MultiOutputMixin, RegressorMixin, _Estimator):
    __doc__ = f"""A multilayer perceptron, or another model, that minimizes the mean square error by AdamW.

    Targets, of shape (examples,) or (examples, outputs), are standardized for training.
{_PARAMETERS}"""

    _loss = staticmethod(_squares)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Do one epoch, and return self. The first call decides how targets are standardized."""
        return self._fit(X, y, sample_weight, start=not hasattr(self, "state_"), epochs=1)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted targets."""
        predictions = self._outputs_for(X) * self._scale + self._mean
        return predictions[:, 0] if self._one_dimensional else predictions

    def _encode(self, y: np.ndarray, weights: np.ndarray, start: bool, classes: Any) -> np.ndarray:
        """Return standardized targets (examples, outputs)."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        columns = y.reshape(len(y), -1).astype(weights.dtype)
        if start:
            self._one_dimensional = y.ndim == 1
            self._mean = np.average(columns, axis=0, weights=weights)
            spread = np.sqrt(np.average((columns - self._mean) ** 2, axis=0, weights=weights))
            self._scale = np.where(spread > 0, spread, 1)
        return ((columns - self._mean) / self._scale).astype(weights.dtype)

    def _outputs(self) -> int:
        return len(self._mean)


_explain_missing_names(__name__)
