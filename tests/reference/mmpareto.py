"""MMPareto (Wei & Hu 2024): the gradient of an encoder, by search and loops."""

import numpy as np


def share(joint, alone, steps=20_000):
    """The weight of the multimodal gradient: 1/2 where the two agree, else that of the shortest of many mixtures."""
    if sum(a * b for a, b in zip(joint, alone, strict=True)) > 0:
        return 0.5
    best, least = 0.0, float("inf")
    for c in np.linspace(0, 1, steps + 1):
        size = float(np.linalg.norm(c * joint + (1 - c) * alone))
        if size < least:
            best, least = float(c), size
    return best


def gradient(joint, alone, gamma, recovery):
    """gamma h, a list of one array per parameter, from two such lists."""
    first, second = (np.concatenate([part.ravel() for part in parts]) for parts in (joint, alone))
    c = share(first, second)
    mixed = [2 * c * a + 2 * (1 - c) * b for a, b in zip(joint, alone, strict=True)]
    plain = [a + b for a, b in zip(joint, alone, strict=True)]
    if recovery == "encoder":
        size, wanted = (np.sqrt(sum((part**2).sum() for part in parts)) for parts in (mixed, plain))
        return [gamma * max(wanted / size, 1.0) * part for part in mixed]
    result = []
    for part, whole in zip(mixed, plain, strict=True):
        size, wanted = np.linalg.norm(part), np.linalg.norm(whole)
        result.append(gamma * (part * wanted / size if wanted > size else part))
    return result
