"""Entropic transport by log-domain Sinkhorn loops (Cuturi 2013; Chizat et al. 2018 for the relaxation)."""

import math

import numpy as np


def _log_sum_exp(values):
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def sinkhorn(cost, regularization, relaxation=math.inf, tolerance=1e-12, sweeps=100_000):
    """Plan of one cost [K, L]: rows sum to 1, columns to K / L or, if `relaxation` is finite, near it."""
    rows, columns = len(cost), len(cost[0])
    mass = rows / columns
    give = 1.0 if relaxation == math.inf else relaxation / (relaxation + regularization)
    f = [0.0] * rows
    g = [0.0] * columns
    for _ in range(sweeps):
        for i in range(rows):
            f[i] = -regularization * _log_sum_exp([(g[j] - cost[i][j]) / regularization for j in range(columns)])
        change = 0.0
        for j in range(columns):
            total = _log_sum_exp([(f[i] - cost[i][j]) / regularization for i in range(rows)])
            new = give * regularization * (math.log(mass) - total)
            change = max(change, abs(new - g[j]))
            g[j] = new
        if change <= tolerance * regularization:
            break
    else:
        raise AssertionError("the oracle did not converge")
    for i in range(rows):
        f[i] = -regularization * _log_sum_exp([(g[j] - cost[i][j]) / regularization for j in range(columns)])
    plan = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            plan[i, j] = math.exp((f[i] + g[j] - cost[i][j]) / regularization)
    return plan
