"""Gated branches and their re-balancing (Wu et al. 2022), one number at a time."""

import math


def linear(vector, matrix, bias):
    return [sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in zip(matrix, bias, strict=True)]


def gates(vectors, squeeze, excite):
    """Gates of one utterance by modality: a sigmoid of a map of the squeezed vector.

    Args:
        vectors: by modality; zeros where absent.
        squeeze: matrix and bias of the joint layer.
        excite: matrix and bias by modality.
    """
    joined = [value for vector in vectors.values() for value in vector]
    squeezed = [max(value, 0.0) for value in linear(joined, *squeeze)]
    return {name: [1 / (1 + math.exp(-v)) for v in linear(squeezed, *pair)] for name, pair in excite.items()}


def speed(gradients, parameters):
    """Squared norm of the gradient over that of the parameters, of a group given as flat lists."""
    return sum(g * g for g in gradients) / sum(p * p for p in parameters)


def cuts(speeds, epsilon, steps):
    """What each step cuts, given (speed of the gates, speed of the branch) by modality after each step.

    Returns:
        One set of modalities per step, the first of which cuts nothing.
    """
    names = list(speeds[0])
    totals = {name: [0.0, 0.0] for name in names}
    plan, current, remaining = [], set(), 0
    for row in speeds:
        plan.append(set(current))
        for name, (cross, own) in row.items():
            totals[name][0] += cross
            totals[name][1] += own
        if remaining > 1:
            remaining -= 1
            continue
        rates = {name: math.log10(cross / own) for name, (cross, own) in totals.items()}
        current = set()
        for name in names:
            others = [rates[other] for other in names if other != name]
            if rates[name] - sum(others) / len(others) > epsilon:
                current.add(name)
        remaining = steps if current else 0
    return plan
