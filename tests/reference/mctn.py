"""Pieces of MCTN, one row and one number at a time."""

import math

import numpy as np


def attention_pool(states, logits):
    """States [N, S, D] weighted by the softmax over the steps of tanh(logits)."""
    pooled = []
    for row, scores in zip(states, logits, strict=True):
        powers = [math.exp(math.tanh(score)) for score in scores]
        pooled.append(sum(power / sum(powers) * state for power, state in zip(powers, row, strict=True)))
    return np.array(pooled)


def resampled(frames, length, steps):
    """The mean of the frames between floor(s T / steps) and ceil((s + 1) T / steps), for each step s."""
    rows = []
    for s in range(steps):
        begin, end = s * length // steps, -(-(s + 1) * length // steps)
        rows.append(sum(frames[t] for t in range(begin, end)) / (end - begin))
    return np.array(rows)


def translation_error(guesses, targets, both):
    """Mean over the rows with source and target of the mean squared difference over steps and features."""
    errors = [
        ((guess - target) ** 2).mean() for guess, target, here in zip(guesses, targets, both, strict=True) if here
    ]
    return sum(errors) / len(errors) if errors else 0.0
