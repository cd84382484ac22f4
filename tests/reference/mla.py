"""MLA: the projector, the gradient that it changes, and the weights of a prediction, one number at a time."""

import math

import numpy as np


def without_direction(projector, direction, alpha):
    """P - (P r)(P r)^T / (alpha + r^T P r)."""
    size = len(direction)
    image = [sum(projector[i][j] * direction[j] for j in range(size)) for i in range(size)]
    denominator = alpha + sum(direction[i] * image[i] for i in range(size))
    return np.array([[projector[i][j] - image[i] * image[j] / denominator for j in range(size)] for i in range(size)])


def weight_gradient(logits, vectors, membership, present):
    """Gradient [K, D] of the mean cross-entropy of logits W z with respect to W, before projection."""
    rows = [i for i, here in enumerate(present) if here]
    total = np.zeros((len(logits[0]), len(vectors[0])))
    for i in rows:
        p = np.exp(logits[i] - max(logits[i]))
        p = p / p.sum()
        for k in range(len(p)):
            total[k] += (p[k] - membership[i][k]) * vectors[i]
    return total / len(rows)


def entropy_weights(logits, present):
    """Weights [M] of the modalities of one utterance: exp(max H - H_m), over their sum."""
    entropy = {}
    for m, row in enumerate(logits):
        if present[m]:
            p = np.exp(row - max(row))
            entropy[m] = -sum(x * math.log(x) for x in p / p.sum())
    largest = max(entropy.values())
    raw = {m: math.exp(largest - value) for m, value in entropy.items()}
    return [raw.get(m, 0.0) / sum(raw.values()) for m in range(len(logits))]
