"""InfoReg (Huang et al. 2025), one number at a time."""

import math


def growth(traces, window):
    """Growth of the moving average of a trace from one epoch to the next; 1 before there is a trace.

    Epochs before the first count as 0.
    """
    if not traces:
        return 1.0

    def average(end):
        return sum(traces[i] if i >= 0 else 0.0 for i in range(end - window, end)) / window

    now, before = average(len(traces)), average(len(traces) - 1)
    return (now - before) / now


def strength(score, others, grown, beta, threshold):
    """How strongly a modality of a score is pulled, given the scores of the others and the growth of its trace."""
    gap = score - sum(others) / len(others)
    return beta * math.exp(math.tanh(gap)) if gap > 0 and grown > threshold else 0.0


def descent(weight, gradients, strengths, rate):
    """Gradient steps of one weight within an epoch, pulled back to where it began."""
    start, path = weight, []
    for gradient, pull in zip(gradients, strengths, strict=True):
        weight = weight - rate * (gradient + pull * (weight - start))
        path.append(weight)
    return path
