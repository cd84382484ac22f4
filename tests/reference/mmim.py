"""Pieces of MMIM, as the facts of its paper and code give them, one row and one number at a time."""

import math

import numpy as np


def network(x, layers, bounded):
    """Two affine maps, (matrix, bias) each, with ReLU between them and tanh at the end where it is `bounded`."""
    (first, first_bias), (second, second_bias) = layers
    result = second @ np.maximum(first @ x + first_bias, 0) + second_bias
    return np.tanh(result) if bounded else result


def likelihood(xs, ys, mean, log_variance):
    """Mean over rows and coordinates of the Gaussian log-likelihood of y given x, without its constant."""
    values = []
    for x, y in zip(xs, ys, strict=True):
        centres, logs = network(x, mean, False), network(x, log_variance, True)
        for entry, centre, log in zip(y, centres, logs, strict=True):
            values.append(-((centre - entry) ** 2) / (2 * math.exp(log)) - log / 2)
    return sum(values) / len(values)


def entropy(samples, diagonal):
    """Half the log-determinant of the covariance of samples, whose divisor is their number."""
    centre, size = sum(samples) / len(samples), len(samples[0])
    covariance = diagonal * np.eye(size)
    for p in range(size):
        for q in range(size):
            covariance[p, q] += sum((s[p] - centre[p]) * (s[q] - centre[q]) for s in samples) / len(samples)
    return np.linalg.slogdet(covariance)[1] / 2


def contrast(xs, guesses):
    """Mean of minus the logarithm of the share of the row's own cosine, exponentiated, among all guesses'."""

    def cosine(a, b):
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    values = []
    for i, x in enumerate(xs):
        shares = [math.exp(cosine(x, guess)) for guess in guesses]
        values.append(-math.log(shares[i] / sum(shares)))
    return sum(values) / len(values)
