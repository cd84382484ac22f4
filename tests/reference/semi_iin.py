"""Pieces of Semi-IIN, as the paper writes them, one number at a time."""

import numpy as np

from tests.reference.systems import layer_norm


def masks(owners, valid):
    """Who attends to whom, intra and inter, from the name of each token's modality (None: a summary) and its mask."""
    count = len(owners)
    intra, inter = np.zeros((count, count), bool), np.zeros((count, count), bool)
    frames = [j for j in range(count) if owners[j] is not None and valid[j]]
    for i in range(count):
        for j in range(count):
            if owners[i] is None:
                sees = j in frames if frames else owners[j] is None
                intra[i, j] = inter[i, j] = sees
            elif owners[j] is None:
                intra[i, j] = inter[i, j] = True
            elif j in frames:
                intra[i, j] = owners[i] == owners[j]
                inter[i, j] = owners[i] != owners[j]
    return intra, inter


def attention(z, allowed, weights, heads):
    """Attention of tokens [L, D] to those allowed; "q", "k", "v", "o" are pairs of matrix and bias."""
    query, key, value = ([row @ weights[n][0].T + weights[n][1] for row in z] for n in "qkv")
    size = z.shape[1] // heads
    rows = []
    for i in range(len(z)):
        parts = []
        for head in range(heads):
            cut = slice(head * size, (head + 1) * size)
            seen = [j for j in range(len(z)) if allowed[i, j]]
            scores = np.array([query[i][cut] @ key[j][cut] / np.sqrt(size) for j in seen])
            shares = np.exp(scores - scores.max())
            parts.append(sum(s * value[j][cut] for s, j in zip(shares / shares.sum(), seen, strict=True)))
        rows.append(weights["o"][0] @ np.concatenate(parts) + weights["o"][1])
    return np.array(rows)


def unit(z, allowed, weights, heads):
    """A unit: both residuals go around the normed tokens; "expand" and "reduce" are pairs, too."""
    normed = layer_norm(z)
    middle = layer_norm(attention(normed, allowed, weights, heads) + normed)
    hidden = np.maximum(middle @ weights["expand"][0].T + weights["expand"][1], 0)
    return hidden @ weights["reduce"][0].T + weights["reduce"][1] + middle


def blend(intra, inter, first, bias, second):
    """Coordinate by coordinate, the inter branch by the share of the gate."""
    result = []
    for d in range(len(intra)):
        share = 1 / (1 + np.exp(-(first[d] @ intra + second[d] @ inter + bias[d])))
        result.append(share * inter[d] + (1 - share) * intra[d])
    return np.array(result)
