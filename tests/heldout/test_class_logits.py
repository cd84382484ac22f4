"""The map from the predictions of a ridge regression to class probabilities."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pase_msa.heldout.pooling import Pooling
from pase_msa.heldout.reference import RidgeReference
from pase_msa.heldout.ridge import RidgeSolver
from pase_msa.task import Task

TASK = Task.regression(["a"], -3, 3)
CLASSES = Task.classification(["a"], ["one", "two", "three"])
EVERYONE = frozenset({"a"})


def ratings(seed, n=300):
    """Features that predict a little of ratings that crowd at both ends, more of them at the upper one."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(n) < 0.7, 1, -1) * rng.choice([2.0, 2.5, 3.0], n)
    return 0.2 * labels[:, None] + rng.normal(size=(n, 3)), labels


def classes(seed, n=300):
    """Features that predict something of three classes of unequal size."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    return np.eye(3)[labels] + rng.normal(size=(n, 3)), labels.astype(float)


def fitted(task, features, labels):
    """What is predicted out of fold, centred, and the slopes [o, k] and intercepts [k] of the reference."""
    targets = labels[:, None] if task.values is not None else np.eye(3)[labels.astype(int)]
    folds = np.arange(len(labels)) % 5
    solver = RidgeSolver({"a": features}, targets, folds, folds)
    pooling = Pooling(np.zeros(3), np.ones(3), False, np.full(3, -np.inf), np.full(3, np.inf))
    reference = RidgeReference.fit(task, solver, {"a": pooling}, {EVERYONE: 1.0}, labels)
    slopes, intercepts = (getattr(reference, name)[0].double().numpy() for name in ("slopes", "intercepts"))
    return solver.solve(["a"]).grouped, slopes, intercepts


def probabilities(predicted, slopes, intercepts):
    logits = predicted @ slopes + intercepts
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def objective(task, labels, predicted, slopes, intercepts):
    """Eq. 16, the absolute error of the score and a little weight decay, in NumPy."""
    result = probabilities(predicted, slopes, intercepts)
    membership = task.membership(torch.from_numpy(labels)).numpy()
    error = np.abs(result @ np.array(task.values) - labels).mean()
    return (
        error
        - (membership * np.log(result)).sum(1).mean()
        + ((slopes * predicted.std()) ** 2).sum() / (2 * len(labels))
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_class_logits_nearby_are_better_by_the_objective_of_a_network(seed):
    features, labels = ratings(seed)
    predicted, slopes, intercepts = fitted(TASK, features, labels)
    best = objective(TASK, labels, predicted, slopes, intercepts)
    rng = np.random.default_rng(seed)
    for size in (0.03, 0.3):
        for _ in range(20):
            nearby = (values + size * rng.normal(size=values.shape) for values in (slopes, intercepts))
            assert objective(TASK, labels, predicted, *nearby) > best - 1e-4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_of_ratings_at_both_ends_err_less_than_the_mean_does(seed):
    features, labels = ratings(seed)
    predicted, slopes, intercepts = fitted(TASK, features, labels)
    scores = probabilities(predicted, slopes, intercepts) @ np.array(TASK.values)
    assert np.abs(scores - labels).mean() < np.abs(predicted[:, 0] + labels.mean() - labels).mean() - 0.05


def test_classes_are_those_of_a_logistic_regression():
    features, labels = classes(0)
    predicted, slopes, intercepts = fitted(CLASSES, features, labels)
    inputs = predicted / predicted.std()
    expected = LogisticRegression(max_iter=1000).fit(inputs, labels).predict_proba(inputs)
    np.testing.assert_allclose(probabilities(predicted, slopes, intercepts), expected, atol=2e-3)


def test_a_class_without_an_example_is_never_expected():
    features, labels = classes(0)
    predicted, slopes, intercepts = fitted(CLASSES, features, np.minimum(labels, 1.0))
    assert probabilities(predicted, slopes, intercepts)[:, 2].max() < 1e-6
