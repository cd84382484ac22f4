"""What an utterance has decides what its prediction is made of: one row of weights per pattern of presence.

A pattern is the set of modalities that an utterance has. Where one is lost, the weights are the posterior among the
coalitions that are left, from the same draws of the same evidence as the weights of all (see `weights`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, combinations, islice

import torch
from jaxtyping import Bool, Float
from torch import Tensor

#: patterns with weights of their own, at most; those of five modalities
MOST_PATTERNS = 30


def presence_patterns(modalities: Sequence[str]) -> list[frozenset[str]]:
    """The patterns that have weights of their own: every set of modalities but none and all, the largest first.

    Of more than five modalities these are those that lack one, every modality alone, and as many others as there is
    room for.
    """
    count = len(modalities)
    sizes = dict.fromkeys([count - 1, 1, *range(count - 2, 1, -1)])
    parts = chain.from_iterable(combinations(modalities, size) for size in sizes if 0 < size < count)
    return sorted(map(frozenset, islice(parts, MOST_PATTERNS)), key=len, reverse=True)


def pattern_rows(
    present: Bool[Tensor, "n m"],
    patterns: Bool[Tensor, "p m"],
    own: Float[Tensor, "p c"],
    common: Float[Tensor, " c"],
) -> Float[Tensor, "n c"]:
    """The row of weights of each utterance: that of its pattern, or the common one where it has none.

    Args:
        present: what each utterance has.
        patterns: those with weights of their own, all different; an empty one counts for nobody.
        own: their weights.
        common: of all other utterances.
    """
    # comparisons and a product, since a compiled graph cannot look anything up by value
    same = (present.unsqueeze(1) == patterns.unsqueeze(0)).all(2)
    matches = (same & patterns.any(1)).to(own.dtype)
    return matches @ own + (1 - matches.sum(1, keepdim=True)) * common


def stacked_presence(present: Mapping[str, Bool[Tensor, " n"]], modalities: Sequence[str]) -> Bool[Tensor, "n m"]:
    """What each utterance has, in the order of the modalities."""
    return torch.stack([present[name] for name in modalities], dim=1)
