"""Pieces of EUAR, as the facts of its partial code give them, one utterance and one expert at a time."""

import math

import numpy as np


def gates(logits, active):
    """Probabilities of the experts, and the gate: the `active` largest of them, with sum 1."""
    powers = [math.exp(value - max(logits)) for value in logits]
    probability = [power / sum(powers) for power in powers]
    chosen = sorted(range(len(logits)), key=lambda e: -probability[e])[:active]
    total = sum(probability[e] for e in chosen)
    return probability, [probability[e] / total if e in chosen else 0.0 for e in range(len(logits))]


def experts(vector, weights, count):
    """Mean and logarithm of the variance of every expert, [E, D] each."""

    def mapped(name):
        return (weights[name] @ vector + weights[f"{name}_bias"]).reshape(count, len(vector))

    return mapped("mean"), mapped("log_variance")


def mixture(means, gate):
    """The gated sum of the means."""
    return sum(g * mean for g, mean in zip(gate, means, strict=True))


def divergence(means, logs):
    """Mean over utterances, experts and coordinates of the divergence from the standard normal."""
    values = []
    for mean, log in zip(np.ravel(means), np.ravel(logs), strict=True):
        variance = math.exp(log)
        values.append((mean**2 + variance - 1 - math.log(variance)) / 2)
    return sum(values) / len(values)


def balance(probabilities, gated):
    """E^2 times the mean over experts of the share of utterances that use it times its mean probability."""
    count, total = len(probabilities[0]), 0.0
    for e in range(count):
        used = sum(gate[e] > 0 for gate in gated) / len(gated)
        total += used * sum(p[e] for p in probabilities) / len(probabilities)
    return count**2 * total / count


def uncertainty(gated, logs):
    """Mean over utterances of the gated sum of the experts' mean variance."""
    values = []
    for gate, row in zip(gated, logs, strict=True):
        values.append(sum(g * np.exp(log).mean() for g, log in zip(gate, row, strict=True)))
    return sum(values) / len(values)
