"""Data Remixing (Ma et al. 2025), one utterance at a time."""

import math


def surety(probabilities):
    """KL of a distribution to the uniform one over as many classes, in nats."""
    total = 0.0
    for p in probabilities:
        if p > 0:
            total += p * math.log(p * len(probabilities))
    return total


def least_sure(distributions):
    """The modality to show: of the distributions by modality, None where absent, the one nearest to uniform."""
    best = None
    for name, distribution in distributions.items():
        if distribution is not None and (best is None or surety(distribution) < surety(distributions[best])):
            best = name
    return {best}


def all_but_surest(distributions):
    """All modalities but the one farthest from uniform; the only one that there is stays."""
    here = [name for name, distribution in distributions.items() if distribution is not None]
    if len(here) == 1:
        return set(here)
    surest = here[0]
    for name in here:
        if surety(distributions[name]) > surety(distributions[surest]):
            surest = name
    return set(here) - {surest}


def remixed_loss(joint, alone, shown):
    """Mean over utterances of the joint loss and of the loss of the head of the modality that is shown.

    Args:
        joint: loss of the fused prediction, [N].
        alone: loss of each head by modality, [N].
        shown: modality of each utterance.
    """
    total = 0.0
    for n, name in enumerate(shown):
        total += joint[n] + alone[name][n]
    return total / len(shown)
