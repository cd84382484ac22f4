"""Pieces of the systems that the paper compares with, as their papers write them, one number at a time."""

import math

import numpy as np


def moment_discrepancy(x, y, moments=5):
    """CMD (Zellinger et al. 2017) of samples in [0, 1]."""
    total = np.linalg.norm(x.mean(0) - y.mean(0))
    for order in range(2, moments + 1):
        total += np.linalg.norm(((x - x.mean(0)) ** order).mean(0) - ((y - y.mean(0)) ** order).mean(0))
    return total


def orthogonality(a, b):
    """MISA: mean squared entry of A^T B, columns centred and rows of unit length."""
    a, b = (part - part.mean(0) for part in (a, b))
    a, b = ([row / (np.linalg.norm(row) + 1e-6) for row in part] for part in (a, b))
    dim = len(a[0])
    entries = [sum(a[i][p] * b[i][q] for i in range(len(a))) ** 2 for p in range(dim) for q in range(dim)]
    return sum(entries) / dim**2


def ratio_loss(anchors, others, same, target):
    """HyCon: per anchor, mean (s - target)^2 over positives less the ratio of sums; over the anchors with positives."""
    values = []
    for i in range(len(anchors)):
        rest = [j for j in range(len(others)) if j != i]
        positives = [j for j in rest if same[i][j]]
        if positives:
            s = {j: float(anchors[i] @ others[j]) for j in rest}
            pulled = sum((s[j] - target) ** 2 for j in positives) / len(positives)
            values.append(pulled - sum(s[j] for j in positives) / sum(s.values()))
    return sum(values) / len(values)


def relative_distance(now, stored, labels):
    """Self-MM: d(s) of features against the centres of stored features by the sign of the labels."""
    positive, negative = stored[labels > 0].mean(0), stored[labels < 0].mean(0)
    result = []
    for feature in now:
        near, far = np.linalg.norm(feature - positive), np.linalg.norm(feature - negative)
        result.append((far - near) / (near + 1e-8))
    return np.array(result)


def pseudo_label(labels, own, fused, half_range):
    """Self-MM: half by the ratio and half by the difference of the distances, within the range."""
    result = []
    for y, s, m in zip(labels, own, fused, strict=True):
        value = 0.5 * y * s / (m + 1e-8) + 0.5 * (y + s - m)
        result.append(min(max(value, -half_range), half_range) if math.isfinite(value) else y)
    return np.array(result)
