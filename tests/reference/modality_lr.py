"""Learning rates by modality (after Fujimori et al. 2019, and MILES 2025), one epoch at a time."""


def overfitting_factors(losses, patience, decay):
    """The factor after each epoch of one modality, from its validation losses."""
    result, stopped = [], False
    for epoch in range(len(losses)):
        least = min(losses[: epoch + 1])
        stale = epoch - losses.index(least)
        factor, waited = 1.0, stale
        while waited >= patience:
            factor *= decay
            waited -= patience
        stopped = stopped or factor == 0
        result.append(0.0 if stopped else factor)
    return result


def utilisation_of_two(total, without_first, without_second, tau, mu):
    """MILES for two modalities: the dominant one is slowed where the gap is larger than tau."""
    first, second = (total - without_first) / total, (total - without_second) / total
    if abs(first - second) <= tau:
        return 1.0, 1.0
    return (mu, 1.0) if first > second else (1.0, mu)


def accuracy(probabilities, labels):
    """Share of rows [N][K] whose largest entry is that of the label."""
    right = 0
    for row, label in zip(probabilities, labels, strict=True):
        right += max(range(len(row)), key=row.__getitem__) == int(label)
    return right / len(labels)
