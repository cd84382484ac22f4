"""Pieces of SMIL, one row and one number at a time."""

import math

import numpy as np


def softplus(value):
    """log(1 + e^x)."""
    return math.log1p(math.exp(value))


def mixture(scores, centres):
    """The mean of the centres, weighted by the softplus of each row's scores."""
    rows = []
    for row in scores:
        weights = [softplus(score) for score in row]
        rows.append(sum(weight * centre for weight, centre in zip(weights, centres, strict=True)) / sum(weights))
    return np.array(rows)


def moved(centres, vectors, here, momentum):
    """The centres after a step of running k-means, none of which is too little used."""
    groups = [[] for _ in centres]
    for vector, counts in zip(vectors, here, strict=True):
        if counts:
            groups[int(np.argmin([np.linalg.norm(vector - centre) for centre in centres]))].append(vector)
    return np.array(
        [
            momentum * centre + (1 - momentum) * np.mean(group, axis=0) if group else centre
            for centre, group in zip(centres, groups, strict=True)
        ]
    )


def noisy(rows, matrix, bias):
    """h softplus(f(h)) of a linear f."""
    return np.array([[h * softplus(m) for h, m in zip(row, matrix @ row + bias, strict=True)] for row in rows])
