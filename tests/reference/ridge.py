"""The reference model of the diagnosis as it is defined: every fold and every penalty solved anew, in NumPy."""

import numpy as np

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def products(top_components, names):
    """Products of the top components of every two members, [n, f] per pair, at a mean square of 1 / f each."""
    pairs = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            left, right = top_components[first], top_components[second]
            columns = [left[:, [p]] * right[:, [q]] for p in range(left.shape[1]) for q in range(right.shape[1])]
            pairs.append(np.concatenate([left[:, :0], *columns], axis=1) / max(len(columns), 1) ** 0.5)
    return pairs


def design(linear, phases, offset, top_components, names, training):
    """Features of a coalition [n, d]: each member's linear ones, the cosines of all phases together, and the products,
    the last two centred; and the sets of columns to choose from."""
    joint = np.cos(sum(phases[name] for name in names) + offset) * np.sqrt(2 / len(offset))
    pairs = products(top_components, names)
    further = np.concatenate([joint, *pairs], axis=1)
    first = np.arange(sum(linear[name].shape[1] for name in names))
    sets, start = [np.arange(len(first) + len(offset)), first], len(first) + len(offset)
    blocks = []
    for pair in pairs:
        blocks.append(np.arange(start, start + pair.shape[1]))
        start += pair.shape[1]
    if pairs:
        sets.append(np.concatenate([first, *blocks]))
    if len(pairs) in (2, 3):
        sets += [np.concatenate([first, block]) for block in blocks]
    whole = np.concatenate([*(linear[name] for name in names), further - further[:training].mean(0)], axis=1)
    return whole, [columns for columns in sets if len(columns)]


def ridge(features, targets, penalty):
    """Weights [d, o] that minimise the squared error plus `penalty * n / d` times the squared weights."""
    count, size = features.shape
    system = features.T @ features + penalty * count / size * np.eye(size)
    return np.linalg.solve(system, features.T @ targets)


def out_of_fold(features, targets, folds, penalty):
    """Prediction of each row by the other folds, whose own mean is its intercept, [n, o]."""
    result = np.zeros_like(targets)
    for fold in set(folds.tolist()):
        held = folds == fold
        mean = targets[~held].mean(0)
        # the features are not centred anew: only what is predicted is, and its mean added
        weights = ridge(features[~held], targets[~held], penalty)
        result[held] = features[held] @ weights + mean
    return result


def predict(features, targets, random, grouped, training, sets):
    """sample, random, grouped, valid, as in `CoalitionFit`; targets need not be centred.

    The folds by video choose among the sets of features, as they choose the penalty; the first set is that of `sample`.
    """
    train = features[:training]
    centred = targets - targets.mean(0)
    choices = [(columns, penalty) for columns in sets for penalty in PENALTIES]
    trials = [out_of_fold(train[:, columns], centred, grouped, penalty) for columns, penalty in choices]
    best = int(np.argmin([((trial - centred) ** 2).mean() for trial in trials]))
    columns, penalty = choices[best]
    return {
        "sample": train[:, sets[0]] @ ridge(train[:, sets[0]], centred, PENALTIES[0]),
        "random": out_of_fold(train[:, columns], centred, random, penalty),
        "grouped": trials[best],
        "valid": features[training:, columns] @ ridge(train[:, columns], centred, penalty),
    }
