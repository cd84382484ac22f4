"""Pieces of GLoMo, as the paper's algorithm writes them, one number at a time."""

import math

import numpy as np


def max_pool(frames, length, stretches):
    """Maxima of the first `length` frames [T, D] over stretches that begin and end as in adaptive pooling."""
    rows = []
    for stretch in range(stretches):
        begin = math.floor(stretch * length / stretches)
        end = math.ceil((stretch + 1) * length / stretches)
        rows.append([max(frames[t][d] for t in range(begin, end)) for d in range(frames.shape[1])])
    return np.array(rows)


def order(values):
    """Places of the values, the largest first."""
    return sorted(range(len(values)), key=lambda place: -values[place])


def gates(logits, active):
    """Softmax over the largest logits of each row."""
    rows = []
    for row in logits:
        chosen = order(row)[:active]
        total = sum(math.exp(row[e]) for e in chosen)
        rows.append([math.exp(row[e]) / total if e in chosen else 0.0 for e in range(len(row))])
    return np.array(rows)


def load(clean, noisy, scale, active):
    """The probability that each expert of each row is chosen if its noise alone is drawn anew."""
    rows = []
    for c, h, s in zip(clean, noisy, scale, strict=True):
        row = []
        for e in range(len(h)):
            others = sorted((h[other] for other in range(len(h)) if other != e), reverse=True)
            row.append(0.5 * (1 + math.erf((c[e] - others[active - 1]) / s[e] / math.sqrt(2))))
        rows.append(row)
    return np.array(rows)


def squared_variation(values):
    """Unbiased variance over squared mean."""
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1) / (mean**2 + 1e-10)


def mixture(x, gate, experts):
    """The gated sum of what experts, lists of (matrix, bias) with ReLU between, make of x [N, X]."""
    rows = []
    for n, row in enumerate(x):
        total = 0.0
        for e, ((first, first_bias), (second, second_bias)) in enumerate(experts):
            total = total + gate[n][e] * (second @ np.maximum(first @ row + first_bias, 0) + second_bias)
        rows.append(total)
    return np.array(rows)


def weighted(vectors, here, first, second):
    """Weights of the present ones among k vectors [k, D]: scores of all side by side, over the root of D, softmax."""
    hidden = np.maximum(first[0] @ np.concatenate([v * h for v, h in zip(vectors, here, strict=True)]) + first[1], 0)
    scores = (second[0] @ hidden + second[1]) / math.sqrt(len(vectors[0]))
    powers = [math.exp(score) if there else 0.0 for score, there in zip(scores, here, strict=True)]
    return np.array(powers) / sum(powers)
