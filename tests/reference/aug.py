"""AUG: the target of a new classifier, the three losses and the comparison, one number at a time."""

import math


def softmax(row):
    """Probabilities of a row of logits."""
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(row, target):
    """Of a row of logits."""
    return -sum(y * math.log(p) for y, p in zip(target, softmax(row), strict=True))


def residual_target(logits, count, target, shrink):
    """Target of classifier number `count` of a chain, from the logits of the chain."""
    former = [softmax(logits[j]) for j in range(count - 1)]
    return [max(y * (1 - shrink * sum(p[k] for p in former)), 0.0) for k, y in enumerate(target)]


def losses(chains, count, membership, present, shrink):
    """(newest, sum, former): means over the rows that have the modality.

    Args:
        chains: logits [N][J][K] of its classifiers.
        count: how many of them it has.
        membership: [N][K].
        present: [N].
        shrink: see the model.
    """
    newest, total, former = [], [], []
    for logits, target, here in zip(chains, membership, present, strict=True):
        if here:
            newest.append(cross_entropy(logits[count - 1], residual_target(logits, count, target, shrink)))
            joint = [[sum(q[k] for q in logits[:n]) for k in range(len(target))] for n in (count, count - 1)]
            total.append(cross_entropy(joint[0], target))
            former.append(cross_entropy(joint[1], target) if count > 1 else 0.0)
    return tuple(sum(values) / len(values) for values in (newest, total, former))


def lengthened(count, probability, seen, sigma, tau, most):
    """Classifiers per modality after a comparison with the best."""
    best = max([p for p, s in zip(probability, seen, strict=True) if s], default=0.0)
    result = []
    for n, p, s in zip(count, probability, seen, strict=True):
        more = s and p < best and best - sigma * p > tau
        result.append(min(n + more, most))
    return result
