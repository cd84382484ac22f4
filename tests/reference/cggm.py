"""CGGM (Guo et al. 2024): its coefficients and its direction term, one number at a time."""

import math


def coefficients(rises):
    """B_m = (sum of the rises - D_m) / sum of the rises, of rises above 0."""
    total = 0.0
    for rise in rises:
        total += rise
    return [(total - rise) / total for rise in rises]


def direction(balance, alone, fused, present):
    """Mean over modalities of |B_m| - B_m cos, of gradients [N][K] at the logits, over the rows with the modality."""
    total, count = 0.0, 0
    for b, own, here in zip(balance, alone, present, strict=True):
        pairs = [(x, y) for i, flag in enumerate(here) if flag for x, y in zip(own[i], fused[i], strict=True)]
        if pairs:
            product = sum(x * y for x, y in pairs)
            size = math.sqrt(sum(x * x for x, _ in pairs)) * math.sqrt(sum(y * y for _, y in pairs))
            total += abs(b) - b * product / size
            count += 1
    return total / count
