"""How the reference's predictions become class probabilities."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pase_msa.heldout.experts import make_experts
from pase_msa.heldout.ridge import Pooling, Reference
from pase_msa.task import Task

TASK = Task.regression(["a"], -3, 3)
CLASSES = Task.classification(["a"], ["one", "two", "three"])
EVERYONE = frozenset({"a"})


def ratings(seed, n=300):
    """Features that tell a little of ratings that crowd at both ends, more of them at the upper one."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(n) < 0.7, 1, -1) * rng.choice([2.0, 2.5, 3.0], n)
    return 0.2 * labels[:, None] + rng.normal(size=(n, 3)), labels


def classes(seed, n=300):
    """Features that tell something of three classes of unequal size."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    return np.eye(3)[labels] + rng.normal(size=(n, 3)), labels.astype(float)


def read_out(task, features, labels):
    """What is predicted out of fold, centred, and the expert that is made of it."""
    targets = labels[:, None] if task.values is not None else np.eye(3)[labels.astype(int)]
    folds = np.arange(len(labels)) % 5
    reference = Reference({"a": features}, targets, folds, folds)
    pooling = Pooling(np.zeros(3), np.ones(3), False)
    experts = make_experts(task, reference, {"a": pooling}, {EVERYONE: 1.0}, targets, labels)
    return reference.predict(["a"]).grouped, experts.members[0]


def probabilities(said, slopes, intercepts):
    logits = said @ slopes + intercepts
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def objective(task, labels, said, slopes, intercepts):
    """Eq. 16, the absolute error of the score and a little weight decay, in NumPy."""
    found = probabilities(said, slopes, intercepts)
    membership = task.membership(torch.from_numpy(labels)).numpy()
    error = np.abs(found @ np.array(task.values) - labels).mean()
    return error - (membership * np.log(found)).sum(1).mean() + ((slopes * said.std()) ** 2).sum() / (2 * len(labels))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_class_logits_nearby_are_better_by_the_objective_of_a_network(seed):
    features, labels = ratings(seed)
    said, expert = read_out(TASK, features, labels)
    found = objective(TASK, labels, said, expert.slopes, expert.intercepts)
    rng = np.random.default_rng(seed)
    for size in (0.03, 0.3):
        for _ in range(20):
            slopes = expert.slopes + size * rng.normal(size=expert.slopes.shape)
            intercepts = expert.intercepts + size * rng.normal(size=expert.intercepts.shape)
            assert objective(TASK, labels, said, slopes, intercepts) > found - 1e-4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_of_ratings_at_both_ends_err_less_than_the_mean_does(seed):
    features, labels = ratings(seed)
    said, expert = read_out(TASK, features, labels)
    scores = probabilities(said, expert.slopes, expert.intercepts) @ np.array(TASK.values)
    assert np.abs(scores - labels).mean() < np.abs(said[:, 0] + labels.mean() - labels).mean() - 0.05


def test_classes_are_those_of_a_logistic_regression():
    features, labels = classes(0)
    said, expert = read_out(CLASSES, features, labels)
    known = LogisticRegression(max_iter=1000).fit(said / said.std(), labels).predict_proba(said / said.std())
    np.testing.assert_allclose(probabilities(said, expert.slopes, expert.intercepts), known, atol=2e-3)


def test_a_class_without_an_example_is_never_expected():
    features, labels = classes(0)
    said, expert = read_out(CLASSES, features, np.minimum(labels, 1.0))
    assert probabilities(said, expert.slopes, expert.intercepts)[:, 2].max() < 1e-6
