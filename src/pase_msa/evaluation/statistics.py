"""What repeated runs show: intervals, paired tests, effect sizes, and correction for several comparisons.

Differences are *ours less the rival's*, in the unit of the metric. They are paired: by seed, by data partition, or
both, whatever two methods have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pase_msa.errors import PaSEError

DRAWS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean with what is known about it.

    Attributes:
        mean: of the values.
        sd: standard deviation of the values (n - 1); 0 for a single one.
        low: lower end of the 95 % interval of the mean.
        high: upper end.
        count: values.
    """

    mean: float
    sd: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """A paired difference, ours less the rival's.

    Attributes:
        estimate: of the differences.
        d: Cohen's d of paired differences (their mean in units of their standard deviation).
        p: two-sided, of the sign-flip test.
        p_holm: the same, corrected for the number of rivals.
    """

    estimate: Estimate
    d: float
    p: float
    p_holm: float


def estimate(values: ArrayLike, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Mean, standard deviation and bootstrap interval of the mean (BCa, Efron 1987) of values [n].

    Of one value, or of equal ones, nothing is known about the spread, and the interval is the value itself.

    Errors:
        PaSEError: no value, or one that is not finite.
    """
    found = _finite(values)
    mean = float(found.mean())
    if np.ptp(found) == 0:
        return Estimate(mean, 0.0, mean, mean, len(found))
    drawn = stats.bootstrap(
        (found,), np.mean, confidence_level=level, n_resamples=draws, rng=np.random.default_rng(seed)
    )
    interval = drawn.confidence_interval
    return Estimate(mean, float(found.std(ddof=1)), float(interval.low), float(interval.high), len(found))


def sign_flip_test(differences: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p-value of paired differences [n] under "either sign is as likely" (Fisher 1935).

    Exact, over all 2^n sign patterns, where there are no more of them than `draws`. The smallest possible value is
    2^(1 - n): five pairs cannot show anything at 5 %, six can.
    """
    found = _finite(differences)
    if not found.any():
        return 1.0
    if len(found) == 1:
        return 1.0  # both signs are equally extreme
    result = stats.permutation_test(
        (found,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def cohens_d(differences: ArrayLike) -> float:
    """Mean of paired differences [n] in units of their standard deviation (Cohen 1988, d_z).

    nan for one pair; infinite where all differ by the same amount; 0 where nothing differs.
    """
    found = _finite(differences)
    if not found.any():
        return 0.0
    if len(found) == 1:
        return float("nan")
    spread = float(found.std(ddof=1))
    return float(found.mean() / spread) if spread else float(np.copysign(np.inf, found.mean()))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number (Holm 1979): the k-th smallest of m times m - k + 1, never decreasing.

    What is below .05 afterwards holds with a 5 % risk that any of them is wrong.
    """
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def paired_differences(
    table: pd.DataFrame, metric: str, ours: str, rival: str, *, by: Sequence[str] = ("data", "seed")
) -> NDArray[np.float64]:
    """Differences of a metric between two variants of a study's table, one a common value of `by`.

    Args:
        table: as `run_study` returns it, with the columns "variant", `by` and `metric`.
        metric: a column.
        ours: a variant.
        rival: another one.
        by: what is paired. Several rows of a variant with equal values are averaged first: `by=["data"]` pairs by data
            set or partition, over the means of their seeds.

    Errors:
        PaSEError: a column or a variant is missing, or a value of `by` is there for one variant only.
    """
    if missing := [name for name in ("variant", metric, *by) if name not in table.columns]:
        raise PaSEError(f"The table has no column {missing[0]!r}; it has {', '.join(table.columns)}.")
    sides = []
    for name in (ours, rival):
        rows = table[(table["variant"] == name) & table[metric].notna()]
        if rows.empty:
            known = ", ".join(dict.fromkeys(table["variant"]))
            raise PaSEError(f"The table has no {metric} of the variant {name!r}; it has {known}.")
        sides.append(rows.groupby(list(by), sort=True)[metric].mean())
    if not sides[0].index.equals(sides[1].index):
        alone = sides[0].index.symmetric_difference(sides[1].index)[0]
        raise PaSEError(
            f"{ours!r} and {rival!r} do not pair: only one of them has {', '.join(by)} = {alone}; run both."
        )
    return np.asarray(sides[0] - sides[1], dtype=np.float64)


def against_rivals(
    table: pd.DataFrame,
    metric: str,
    ours: str,
    rivals: Sequence[str],
    *,
    by: Sequence[str] = ("data", "seed"),
    seed: int = 0,
) -> dict[str, Difference]:
    """Our paired difference from each rival in a metric, p-values corrected for the number of rivals (Holm)."""
    gaps = {rival: paired_differences(table, metric, ours, rival, by=by) for rival in rivals}
    p = {rival: sign_flip_test(gap, seed=seed) for rival, gap in gaps.items()}
    corrected = holm(p)
    return {
        rival: Difference(estimate(gap, seed=seed), cohens_d(gap), p[rival], corrected[rival])
        for rival, gap in gaps.items()
    }


def cluster_draws(clusters: int, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each of `clusters` clusters is in each of `draws` bootstrap samples, [draws, clusters]."""
    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)


def cluster_swaps(clusters: int, draws: int, seed: int = 0) -> tuple[Float[NDArray[np.float64], "d c"], bool]:
    """Which clusters change sides under the null hypothesis, 0 or 1 [draws, clusters]; whether these are all ways."""
    if clusters < 60 and 2**clusters <= draws:
        numbers = np.arange(2**clusters)
        return (numbers[:, None] >> np.arange(clusters) & 1).astype(np.float64), True
    return np.random.default_rng(seed).integers(0, 2, size=(draws, clusters)).astype(np.float64), False


def permutation_p(observed: float, drawn: Float[NDArray[np.float64], " d"], exact: bool) -> float:
    """Two-sided p-value of a difference among those under the null hypothesis; the one observed counts among draws."""
    tolerance = 1e-12 + 1e-9 * abs(observed)  # the same sum in another order
    extreme = int((np.abs(drawn) >= abs(observed) - tolerance).sum())
    return extreme / len(drawn) if exact else (extreme + 1) / (len(drawn) + 1)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(values.mean(axis=axis))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise PaSEError(f"Statistics want one finite number or more in a row, found {found.tolist()}.")
    return found
