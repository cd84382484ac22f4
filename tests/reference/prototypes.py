"""Equations 1 to 3 of PaSE, and the weights of eq. 10 and 11, with loops and nothing else."""

import math

import numpy as np


def one_hot(classes, num_classes):
    return np.array([[float(k == y) for k in range(num_classes)] for y in classes])


def prototypes_after(batches, num_classes, dim, momentum):
    """Prototypes [K, D] after batches of (features [N, D], membership [N, K]); NaN where a class never appeared."""
    result = np.full((num_classes, dim), np.nan)
    for features, membership in batches:
        for k in range(num_classes):
            weight = sum(row[k] for row in membership)
            if weight == 0:
                continue
            centroid = sum(row[k] * x for x, row in zip(features, membership, strict=True)) / weight  # eq. 1
            if np.isnan(result[k]).any():
                result[k] = centroid
            else:
                result[k] = momentum * result[k] + (1 - momentum) * centroid  # eq. 2
    return result


def straight_through_gradient(upstream, membership):
    """Gradient [N, D] of sum(upstream * prototypes) where the prototypes [K, D] pass on that of eq. 1's centroids."""
    result = np.zeros((len(membership), upstream.shape[1]))
    for k in range(len(upstream)):
        weight = sum(row[k] for row in membership)
        for n, row in enumerate(membership):
            if weight > 0:
                result[n] += row[k] / weight * upstream[k]
    return result


def ema_gradient(upstream, membership, prototypes, momentum):
    """The same where eq. 2 is differentiated as printed; `prototypes` [K, D] are those before the batch."""
    first = np.isnan(prototypes).any(1)  # the first centroid of a class is its prototype, and passes on everything
    return straight_through_gradient(np.where(first, 1.0, 1 - momentum)[:, None] * upstream, membership)


def posterior(features, prototypes, temperature):
    """The softmax of eq. 3 over the classes that have a prototype, [N, K]; NaN prototypes are those of the others."""
    there = [k for k in range(len(prototypes)) if not np.isnan(prototypes[k]).any()]
    result = np.zeros((len(features), len(prototypes)))
    for n, x in enumerate(features):
        cosines = [x @ prototypes[k] / (np.linalg.norm(x) * np.linalg.norm(prototypes[k])) for k in there]
        powers = [math.exp(cosine / temperature) for cosine in cosines]
        for k, power in zip(there, powers, strict=True):
            result[n, k] = power / sum(powers)
    return result


def calibration(features, prototypes, membership, temperature):
    """Eq. 3; a class without a prototype has no part in it."""
    probabilities = posterior(features, prototypes, temperature)
    losses = [
        -sum(y * math.log(p) for y, p in zip(labels, row, strict=True) if p > 0)
        for labels, row in zip(membership, probabilities, strict=True)
    ]
    return sum(losses) / max(1, len(losses))


def certainty(posteriors, membership, literal):
    """E of eq. 10, [N]: as printed, or one minus the normalised entropy."""
    result = []
    for p, y in zip(posteriors, membership, strict=True):
        if literal:
            mine = float(np.dot(p, y))
            result.append(1 - mine * math.log(mine))
        else:
            entropy = -sum(q * math.log(q) for q in p if q > 0)
            result.append(1 - entropy / math.log(len(p)))
    return np.array(result)


def softmax(values):
    """Eq. 11."""
    powers = [math.exp(value) for value in values]
    return np.array([power / sum(powers) for power in powers])
