"""ReconBoost: the losses of a stage and the slope of rho, row by row."""

import math


def softmax(row):
    """Probabilities of a row of logits."""
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def stage_loss(name, logits, present, membership, scale, own, rest):
    """Mean over the rows that have the modality, of the cross-entropy weighted by what the others predict.

    Args:
        name: of the modality.
        logits: by modality, lists of rows of K numbers.
        present: by modality, lists of flags.
        membership: rows of K numbers.
        scale: rho.
        own: weight of the cross-entropy.
        rest: weight of what the others predict.
    """
    values = []
    for i, target in enumerate(membership):
        if not present[name][i]:
            continue
        others = [other for other in logits if other != name and present[other][i]]
        explained = [0.0] * len(target)
        if others:
            explained = softmax([scale * sum(logits[o][i][k] for o in others) for k in range(len(target))])
        mine = softmax(logits[name][i])
        terms = [y * (own - rest * explained[k]) * math.log(mine[k]) for k, y in enumerate(target)]
        values.append(-sum(terms) / len(target))
    return sum(values) / len(values)


def alignment(mine, before, both):
    """Mean squared distance of two predictions over the rows that have both modalities."""
    values = []
    for i, here in enumerate(both):
        if here:
            pairs = zip(softmax(mine[i]), softmax(before[i]), strict=True)
            values += [(p - q) ** 2 for p, q in pairs]
    return sum(values) / len(values)


def scale_slope(sums, membership, scale):
    """Derivative of the mean cross-entropy of rho S with respect to rho: the mean of sum_k (p_k - y_k) S_k."""
    slopes = []
    for row, target in zip(sums, membership, strict=True):
        p = softmax([scale * value for value in row])
        slopes.append(sum((p[k] - target[k]) * row[k] for k in range(len(row))))
    return sum(slopes) / len(slopes)


def turns(modalities, stage_epochs, rectify_epochs, epochs):
    """Who is trained in each epoch from the first on; None is everybody."""
    order = []
    while len(order) < epochs:
        for name in modalities:
            order += [name] * stage_epochs + [None] * rectify_epochs
    return order[:epochs]
