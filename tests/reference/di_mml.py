"""DI-MML: effective dimensions, the contrast and the weights of a prediction, one number at a time."""

import math

import numpy as np


def separation(vectors, means, seen, right):
    """Share of rows, by dimension, whose nearest class mean in this dimension alone is that of the right class."""
    shares = []
    for j in range(vectors.shape[1]):
        count = 0
        for row, label in zip(vectors, right, strict=True):
            distances = {k: abs(row[j] - means[k][j]) for k in range(len(means)) if seen[k]}
            count += min(distances, key=distances.get) == label
        shares.append(count / len(vectors))
    return np.array(shares)


def class_means(vectors, right, classes):
    """Means [K, D] of the rows of each class, zero without rows, and whether it has some."""
    means, seen = np.zeros((classes, vectors.shape[1])), []
    for k in range(classes):
        rows = [row for row, label in zip(vectors, right, strict=True) if label == k]
        seen.append(bool(rows))
        if rows:
            means[k] = sum(rows) / len(rows)
    return means, seen


def contrast(student, teacher, dimensions, rows, temperature):
    """Mean over some rows of -log of the share of the own row in the teacher."""
    chosen = [i for i, here in enumerate(rows) if here]
    values = []
    for i in chosen:
        products = {j: sum(student[i][d] * teacher[j][d] for d in dimensions) / temperature for j in chosen}
        values.append(-math.log(math.exp(products[i]) / sum(math.exp(value) for value in products.values())))
    return sum(values) / len(values)


def certainty_weights(logits, present, temperature):
    """Weights [S] of the predictions of one utterance by their largest probability."""
    raw = []
    for row, here in zip(logits, present, strict=True):
        powers = np.exp(row - max(row))
        raw.append(math.exp(max(powers / powers.sum()) / temperature) if here else 0.0)
    return [value / sum(raw) for value in raw]
