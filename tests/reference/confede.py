"""Pieces of ConFEDE, as the paper's rules say, one pair at a time."""

import math

import numpy as np


def cosine(a, b):
    """Of two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def partners(vectors, present, classes, count):
    """Of each utterance, the nearest of its class, the nearest and the farthest of others; fewer if there are fewer."""
    result = []
    for i in range(len(vectors)):
        cosines = {}
        for j in range(len(vectors)):
            both = [m for m in range(len(present[i])) if present[i][m] and present[j][m]]
            if j != i and both:
                joined = (np.concatenate([vectors[row][m] for m in both]) for row in (i, j))
                cosines[j] = cosine(*joined)
        own = [j for j in cosines if classes[j] == classes[i]]
        others = [j for j in cosines if classes[j] != classes[i]]
        near, far = (lambda j, c=cosines: -c[j]), (lambda j, c=cosines: c[j])
        result.append([sorted(rows, key=key)[:count] for rows, key in ((own, near), (others, near), (others, far))])
    return result


def pairs(modalities, hub, same, other):
    """Positive and negative pairs of vectors of an utterance, 0, and its partners, by their numbers.

    A vector is (kind, modality, copy), where the copy is 0 or the number of a partner.
    """
    positive, negative = [], []
    for m in modalities:
        positive += [(("s", m, 0), ("s", m, copy)) for copy in same]
        negative += [(("s", m, 0), ("s", m, copy)) for copy in other]
    for copy in [0, *same, *other]:
        positive += [(("s", hub, copy), ("s", m, copy)) for m in modalities if m != hub]
        negative += [(("s", hub, copy), ("d", m, copy)) for m in modalities]
    return positive, negative


def nt_xent(positive, negatives, temperature):
    """Minus the logarithm of the share of a positive cosine among itself and the negative ones."""
    own = math.exp(positive / temperature)
    return -math.log(own / (own + sum(math.exp(n / temperature) for n in negatives)))


def decomposition_loss(similar, dissimilar, present, chosen, hub, temperature):
    """Mean over the positive pairs of all utterances, from the partners that `partners` returns."""
    values = []
    for i, (same, near, far) in enumerate(chosen):
        rows = [i, *same, *near, *far]
        copies = range(1, len(rows))
        modalities = range(len(present[i]))
        positive, negative = pairs(modalities, hub, copies[: len(same)], copies[len(same) :])

        def there(pair, rows=rows):
            return all(present[rows[copy]][m] for _, m, copy in pair)

        def similarity(pair, rows=rows):
            return cosine(*((similar if kind == "s" else dissimilar)[rows[copy]][m] for kind, m, copy in pair))

        for pair in filter(there, positive):
            against = [similarity(other) for other in negative if there(other) and other[0] == pair[0]]
            values.append(nt_xent(similarity(pair), against, temperature))
    return sum(values) / len(values)
