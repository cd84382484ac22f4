"""Naive versions of what is measured on points in groups, and on ranked predictions."""

import numpy as np


def between_within(points, names):
    """Sum of squares of the groups' means around the mean of all, over that of the points around their means."""
    between = within = 0.0
    for name in set(names):
        mine = np.array([point for point, other in zip(points, names, strict=True) if other == name])
        between += len(mine) * ((mine.mean(0) - points.mean(0)) ** 2).sum()
        within += ((mine - mine.mean(0)) ** 2).sum()
    return between / within


def area_under_risk(confidence, right):
    """Mean over n of the error rate of the n most confident predictions; confidences are distinct."""
    order = sorted(range(len(right)), key=lambda i: -confidence[i])
    return np.mean([np.mean([not right[i] for i in order[:n]]) for n in range(1, len(order) + 1)])
