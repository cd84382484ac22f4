"""LFM (Yang et al. 2024): the alignment of unimodal predictions, one utterance at a time."""

import math
from itertools import combinations


def divergence(p, q):
    """KL of p from q, in nats."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def gap(probabilities, present):
    """Mean over utterances with a pair, of the mean over their pairs, of half the sum of KL(c || p) and KL(c || q).

    Args:
        probabilities: by modality, [N, K].
        present: by modality, [N].
    """
    rows = []
    for n in range(len(next(iter(probabilities.values())))):
        values = []
        for one, two in combinations([name for name in probabilities if present[name][n]], 2):
            p, q = probabilities[one][n], probabilities[two][n]
            middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
            values.append((divergence(middle, p) + divergence(middle, q)) / 2)
        if values:
            rows.append(sum(values) / len(values))
    return sum(rows) / len(rows) if rows else 0.0


def objective(task_loss, distance, epoch, first, last, epochs):
    """2 (a L + (1 - a) J) in an epoch, counted from 0."""
    a = last if epoch >= epochs else first + (last - first) * epoch / epochs
    return 2 * (a * task_loss + (1 - a) * distance)
