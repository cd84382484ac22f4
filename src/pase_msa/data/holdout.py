"""A validation split of whole groups, for data that have none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pase_msa.errors import PaSEError


def hold_out(
    groups: Sequence[str],
    fraction: float,
    seed: int,
    strata: Sequence[str] | None = None,
    *,
    exact: bool = False,
) -> NDArray[np.bool_]:
    """Which samples to validate on, bool [N]: whole groups in random order.

    They are about `fraction` of the samples, and of each stratum. No stratum is used up where that can be avoided. If
    every group is larger than its share, the smallest one is taken.

    Args:
        groups: group of each sample [N], such as its video.
        fraction: in (0, 1).
        seed: of the order of groups.
        strata: stratum of each sample [N], such as its class; one for all if left out.
        exact: whether the fraction is that of all samples; else it is that of each stratum or more, so that many small
            strata make it larger.

    Errors:
        PaSEError: fewer than two groups, or a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise PaSEError(f"The share of the samples to validate on lies between 0 and 1, found {fraction}.")
    member = np.unique(np.asarray(groups), return_inverse=True)[1]
    kind = np.unique(np.asarray(strata if strata is not None else [""] * len(groups)), return_inverse=True)[1]
    count = int(member.max()) + 1
    if count < 2:
        raise PaSEError("The samples are one group, which cannot be divided; give more groups, or validation=(X, y).")
    counts = np.zeros((count, int(kind.max()) + 1), dtype=np.int64)
    np.add.at(counts, (member, kind), 1)
    totals = counts.sum(0)
    limit = np.ceil(fraction * totals)
    if exact:  # the largest remainders are rounded up, as many as the whole needs
        limit = np.floor(fraction * totals)
        rest = round(fraction * len(member)) - int(limit.sum())
        limit[np.argsort(limit - fraction * totals, kind="stable")[: max(rest, 0)]] += 1
    # at least one sample of each stratum stays in training
    limit = np.minimum(np.maximum(limit, 1), totals - 1)
    taken = np.zeros_like(totals)
    chosen: list[int] = []
    for group in np.random.default_rng(seed).permutation(count).tolist():
        if (taken + counts[group] <= limit).all():
            taken += counts[group]
            chosen.append(group)
    return np.isin(member, chosen or [int(counts.sum(1).argmin())])
