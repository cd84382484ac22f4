"""Uni-modal ensemble (Du et al. 2023), one utterance at a time."""

import math


def softmax(logits):
    exponents = [math.exp(value - max(logits)) for value in logits]
    return [value / sum(exponents) for value in exponents]


def ensemble(logits, present, prior):
    """Mean of the probabilities of the modalities that an utterance has; the prior where it has none.

    Args:
        logits: by modality, [N, K].
        present: by modality, [N].
        prior: class frequencies, [K].
    """
    rows = []
    for n in range(len(next(iter(logits.values())))):
        votes = [softmax(list(values[n])) for name, values in logits.items() if present[name][n]]
        rows.append([sum(column) / len(votes) for column in zip(*votes, strict=True)] if votes else list(prior))
    return rows


def losses(logits, present, classes):
    """Cross-entropy of each modality's own prediction, over the utterances that have it."""
    result = {}
    for name, values in logits.items():
        own = [-math.log(softmax(list(values[n]))[c]) for n, c in enumerate(classes) if present[name][n]]
        result[name] = sum(own) / len(own) if own else 0.0
    return result
