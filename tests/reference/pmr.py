"""PMR (Fan et al. 2023) as its paper writes it, one utterance and one class at a time."""

import math


def prototypes(vectors, membership, present):
    """Class means [K][D] of vectors [N][D]; None for a class that no utterance shows."""
    result = []
    for k in range(len(membership[0])):
        weight, total = 0.0, [0.0] * len(vectors[0])
        for vector, u, here in zip(vectors, membership, present, strict=True):
            if here:
                weight += u[k]
                total = [t + u[k] * v for t, v in zip(total, vector, strict=True)]
        result.append([t / weight for t in total] if weight else None)
    return result


def posterior(vector, means):
    """Softmax of the negative distances to the prototypes."""
    raw = [0.0 if mean is None else math.exp(-math.dist(vector, mean)) for mean in means]
    return [value / sum(raw) for value in raw]


def terms(vectors, means, membership, present):
    """PCE, score and entropy of a modality: means over the utterances that have it."""
    rows = []
    for vector, u, here in zip(vectors, membership, present, strict=True):
        if here:
            p = posterior(vector, means)
            loss = -sum(uk * math.log(pk) for uk, pk in zip(u, p, strict=True) if uk and pk)
            score = sum(uk * pk for uk, pk in zip(u, p, strict=True))
            entropy = -sum(pk * math.log(pk) for pk in p if pk)
            rows.append((loss, score, entropy))
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def of_two(first, second):
    """The paper's coefficients beta and gamma from the scores of two modalities."""
    rho = first / second
    return min(max(1 / rho - 1, 0.0), 1.0), min(max(rho - 1, 0.0), 1.0)


def of_many(scores):
    """The coefficients of any number of modalities."""
    return [min(max(max(scores) / score - 1, 0.0), 1.0) for score in scores]
