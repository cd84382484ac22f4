"""The reference model of the diagnosis as it is defined: every fold and every penalty solved anew, in NumPy."""

import numpy as np

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def design(linear, phases, offset, names, training):
    """Features of a coalition [n, d]: each member's linear ones, and the cosines of all phases together, centred."""
    joint = np.cos(sum(phases[name] for name in names) + offset) * np.sqrt(2 / len(offset))
    return np.concatenate([*(linear[name] for name in names), joint - joint[:training].mean(0)], axis=1)


def ridge(features, targets, penalty):
    """Weights [d, o] that minimise the squared error plus `penalty * n / d` times the squared weights."""
    count, size = features.shape
    system = features.T @ features + penalty * count / size * np.eye(size)
    return np.linalg.solve(system, features.T @ targets)


def out_of_fold(features, targets, folds, penalty):
    """Prediction of each row by the other folds, whose own mean is its intercept, [n, o]."""
    said = np.zeros_like(targets)
    for fold in set(folds.tolist()):
        held = folds == fold
        mean = targets[~held].mean(0)
        # the features are not centred anew: only what is predicted is, and its mean added
        weights = ridge(features[~held], targets[~held], penalty)
        said[held] = features[held] @ weights + mean
    return said


def predict(features, targets, random, grouped, training, linear):
    """sample, random, grouped, valid, as `Reference.predict` says them; targets need not be centred.

    The first `linear` features may be used alone: the folds by video choose, as they choose the penalty.
    """
    train = features[:training]
    centred = targets - targets.mean(0)
    choices = [(width, penalty) for width in {features.shape[1], linear} - {0} for penalty in PENALTIES]
    trials = [out_of_fold(train[:, :width], centred, grouped, penalty) for width, penalty in choices]
    best = int(np.argmin([((trial - centred) ** 2).mean() for trial in trials]))
    width, penalty = choices[best]
    return {
        "sample": train @ ridge(train, centred, PENALTIES[0]),
        "random": out_of_fold(train[:, :width], centred, random, penalty),
        "grouped": trials[best],
        "valid": features[training:, :width] @ ridge(train[:, :width], centred, penalty),
    }
