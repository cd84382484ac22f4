"""Pieces of MoMKE, one utterance at a time."""

import math

import numpy as np


def softmax(scores):
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def mixture(parts, scores):
    """What the router makes of the experts' vectors, by utterance.

    Args:
        parts: of each expert the vectors [N, D].
        scores: of the router, [N, E].
    """
    rows = []
    for i, row in enumerate(scores):
        shares = softmax(list(row))
        rows.append(sum(share * part[i] for share, part in zip(shares, parts, strict=True)))
    return np.array(rows)


def block(inputs, seen, weights, heads):
    """Attention to the utterances that are seen and a feed-forward part, both added.

    Args:
        inputs: [N, D].
        seen: which utterances each one sees, a list of lists.
        weights: matrices "q", "k", "v", "o", "first", "second" [D, D] and their biases, "q_bias" ...
        heads: of the attention.
    """

    def linear(row, name):
        return weights[name] @ row + weights[f"{name}_bias"]

    rows, size = [], inputs.shape[1] // heads
    for i, row in enumerate(inputs):
        given = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            query = linear(row, "q")[part]
            shares = softmax([query @ linear(inputs[j], "k")[part] / math.sqrt(size) for j in seen[i]])
            given.append(sum(share * linear(inputs[j], "v")[part] for share, j in zip(shares, seen[i], strict=True)))
        row = row + linear(np.concatenate(given), "o")
        inner = np.array([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in linear(row, "first")])
        rows.append(row + linear(inner, "second"))
    return np.array(rows)
