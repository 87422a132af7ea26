"""The scikit-learn estimators: scikit-learn's own checks, pipelines, searches, weights, pickling, bad input."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from funcgrad import nn, tree
from funcgrad.errors import FuncgradError
from funcgrad.sklearn import FuncgradClassifier, FuncgradRegressor

CLASSIFIER = FuncgradClassifier((16,), epochs=60, learning_rate=0.01, random_state=0)
REGRESSOR = FuncgradRegressor((16,), epochs=60, learning_rate=0.01, random_state=0)
IRIS = load_iris()
FLOWERS, SPECIES = StandardScaler().fit_transform(IRIS.data), IRIS.target_names[IRIS.target]
DIABETES = load_diabetes()


@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR], ids=["classifier", "regressor"])
def test_estimators_pass_the_checks_of_scikit_learn(estimator):
    results = check_estimator(clone(estimator).set_params(random_state=None), on_skip=None, on_fail=None)
    others = {r["check_name"]: repr(r["exception"]) for r in results if r["status"] != "passed"}
    # Arrays of other libraries are checked only where SCIPY_ARRAY_API is set.
    assert others.keys() <= {"check_array_api_input"}, others
    passed = {r["check_name"] for r in results} - others.keys()
    assert len(passed) > 45
    assert passed >= {
        "check_sample_weight_equivalence_on_dense_data",
        "check_estimators_pickle",
        "check_fit_idempotent",
    }


def test_a_pipeline_is_searched():
    pipeline = make_pipeline(StandardScaler(), CLASSIFIER)
    grid = {"funcgradclassifier__hidden": [(), (16,)], "funcgradclassifier__epochs": [1, 60]}
    search = GridSearchCV(pipeline, grid, cv=3, scoring="neg_log_loss").fit(IRIS.data, SPECIES)
    assert search.best_params_["funcgradclassifier__epochs"] == 60
    assert search.best_estimator_.score(IRIS.data, SPECIES) > 0.95
    assert set(search.predict(IRIS.data)) == set(IRIS.target_names)


def test_regression_of_diabetes():
    scores = cross_val_score(make_pipeline(StandardScaler(), REGRESSOR), DIABETES.data, DIABETES.target, cv=3)
    assert scores.mean() > 0.42
    both = clone(REGRESSOR).fit(DIABETES.data * 20, np.stack([DIABETES.target, -DIABETES.target], 1))
    predicted = both.predict(DIABETES.data * 20)
    assert predicted.shape == (442, 2) and np.corrcoef(predicted.T)[0, 1] < -0.98


def test_partial_fits_are_epochs():
    whole = clone(CLASSIFIER).set_params(epochs=5).fit(FLOWERS, SPECIES)
    parts = clone(CLASSIFIER).partial_fit(FLOWERS, SPECIES, classes=IRIS.target_names)
    for _ in range(4):
        parts.partial_fit(FLOWERS, SPECIES)
    assert parts.n_epochs_ == whole.n_epochs_ == 5
    np.testing.assert_allclose(parts.predict_proba(FLOWERS), whole.predict_proba(FLOWERS), rtol=1e-12)
    some = clone(CLASSIFIER).partial_fit(FLOWERS[:60], SPECIES[:60], classes=IRIS.target_names)
    assert some.predict_proba(FLOWERS).shape == (150, 3)


def test_minibatches_seeds_and_dtypes():
    options = {"batch_size": 32, "epochs": 20, "learning_rate": 0.01}
    first, again, other = (
        FuncgradClassifier((8,), random_state=seed, **options).fit(FLOWERS, SPECIES).predict_proba(FLOWERS)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.allclose(first, other) and first.dtype == np.float64
    narrow = FuncgradClassifier((8,), random_state=1, **options).fit(FLOWERS.astype("float32"), SPECIES)
    assert narrow.predict_proba(FLOWERS.astype("float32")).dtype == np.float32
    assert {x.dtype.name for x in tree.leaves(narrow.state_.params)} == {"float32"}


def with_dropout(outputs):
    return nn.Sequential(nn.Linear(16), nn.tanh, nn.Dropout(0.1), nn.Linear(outputs))


def test_any_model_is_trained_and_pickled():
    estimator = clone(CLASSIFIER).set_params(model=with_dropout, activation="tanh").fit(FLOWERS, SPECIES)
    copied = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(copied.predict_proba(FLOWERS), estimator.predict_proba(FLOWERS))
    assert estimator.score(FLOWERS, SPECIES) > 0.9 and copied.partial_fit(FLOWERS, SPECIES).n_epochs_ == 61
    with pytest.raises(NotFittedError):
        clone(estimator).predict(FLOWERS)


def test_early_stopping_returns_to_the_best_epoch():
    options = {"early_stopping": True, "epochs": 300, "patience": 3, "validation_fraction": 0.3, "learning_rate": 0.1}
    estimator = clone(CLASSIFIER).set_params(**options).fit(FLOWERS, SPECIES)
    losses = estimator.history_["val_loss"]
    assert estimator.n_epochs_ == len(losses) < 300 and losses.argmin() == len(losses) - 4
    assert int(estimator.state_.step) == losses.argmin() + 1


def test_the_bar_is_shown_when_verbose(capsys):
    clone(REGRESSOR).set_params(verbose=True, epochs=2).fit(FLOWERS, FLOWERS[:, 0])
    assert "epoch 2/2: 100%" in capsys.readouterr().err


def fit(estimator=CLASSIFIER, x=FLOWERS, y=SPECIES, **options):
    weights = options.pop("sample_weight", None)
    return lambda: clone(estimator).set_params(**options).fit(x, y, sample_weight=weights)


ERRORS = {
    "epochs": (fit(epochs=0), ["FuncgradClassifier: epochs is 0", "at least 1"]),
    "width": (fit(hidden=(8, 0)), ["hidden is (8, 0)", "positive widths"]),
    "float width": (fit(hidden=(8.0,)), ["a width in hidden is 8.0"]),
    "rate": (fit(learning_rate=-1), ["learning_rate is -1", "(0, inf)"]),
    "activation": (fit(activation="step"), ["unknown activation 'step'", "'relu'"]),
    "outputs": (fit(model=lambda n: nn.Linear(5)), ["the model returns (5,) per example, not (3,)"]),
    "first classes": (lambda: clone(CLASSIFIER).partial_fit(FLOWERS, SPECIES), ["no classes in the first call"]),
    "unknown class": (
        lambda: clone(CLASSIFIER).partial_fit(FLOWERS, SPECIES, classes=["setosa", "versicolor"]),
        ["target 'virginica' is not among the classes"],
    ),
    "too few to hold out": (
        fit(REGRESSOR, FLOWERS[:2], [1.0, 2.0], early_stopping=True),
        ["validation_fraction 0.1 of 2 examples leaves none"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    action, parts = ERRORS[name]
    with pytest.raises(FuncgradError) as caught:
        action()
    for part in [*parts, "test_estimators.py:", "fix: "]:
        assert part in str(caught.value), caught.value
