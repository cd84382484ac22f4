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


def posterior(features, prototypes, temperature):
    """The softmax of eq. 3, [N, K]."""
    result = []
    for x in features:
        cosines = [x @ c / (np.linalg.norm(x) * np.linalg.norm(c)) for c in prototypes]
        powers = [math.exp(cosine / temperature) for cosine in cosines]
        result.append([power / sum(powers) for power in powers])
    return np.array(result)


def calibration(features, prototypes, membership, temperature):
    """Eq. 3."""
    logs = np.log(posterior(features, prototypes, temperature))
    return -np.mean([np.dot(row, log) for row, log in zip(membership, logs, strict=True)])


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
