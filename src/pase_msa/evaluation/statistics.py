"""Statistics of repeated runs: intervals, paired tests, effect sizes, and correction for several comparisons.

A difference is *ours minus the baseline's*, in the unit of the metric. Differences are paired by what two methods have
in common: the seed, the data partition, or both. A paired test compares each value with its partner, so that what both
share (an easy test split, a lucky seed) cancels.

- Between methods over seeds or partitions: `paired_differences`, `sign_flip_test`, `cohens_d`, `estimate`, `holm`.
- Between runs over the videos of one test split: `cluster_draws`, `cluster_swaps`, `permutation_p`, which
  `pase_msa.evaluation.compare` uses.
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
"""Bootstrap samples, or sign patterns where there are more than this."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its spread and its interval.

    Attributes:
        mean: of the values.
        sd: standard deviation of the values (n - 1); 0 for a single one.
        low: lower end of the 95 % interval of the mean.
        high: upper end of that interval.
        count: number of values.
    """

    mean: float
    sd: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """A paired difference, ours minus the baseline's.

    Attributes:
        estimate: mean, spread and interval of the differences.
        d: Cohen's d of paired differences (their mean in units of their standard deviation).
        p: two-sided p-value of the sign-flip test.
        p_holm: the same, corrected for the number of baselines.
    """

    estimate: Estimate
    d: float
    p: float
    p_holm: float


def estimate(values: ArrayLike, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Mean, standard deviation and bootstrap interval of the mean (BCa, Efron 1987) of values [n].

    One value, or equal ones, show no spread; the interval is the value itself then.

    Args:
        values: [n].
        level: of the interval.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Errors:
        PaSEError: no value, or one that is not finite.
    """
    numbers = _finite(values)
    mean = float(numbers.mean())
    if np.ptp(numbers) == 0:
        return Estimate(mean, 0.0, mean, mean, len(numbers))
    drawn = stats.bootstrap(
        (numbers,), np.mean, confidence_level=level, n_resamples=draws, rng=np.random.default_rng(seed)
    )
    interval = drawn.confidence_interval
    return Estimate(mean, float(numbers.std(ddof=1)), float(interval.low), float(interval.high), len(numbers))


def sign_flip_test(differences: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p-value of paired differences [n] by flipping their signs (Fisher 1935).

    Under the null hypothesis either sign of a difference is as likely. The p-value is the share of sign patterns whose
    mean is at least as far from zero as the observed one. It is exact, over all 2^n patterns, where these are no more
    than `draws`. The smallest possible value is 2^(1 - n): five pairs cannot be significant at 5 %, six can.

    Args:
        differences: [n].
        draws: largest number of sign patterns; with more pairs they are drawn at random.
        seed: of that draw.

    Errors:
        PaSEError: no difference, or one that is not finite.
    """
    pairs = _finite(differences)
    if not pairs.any():
        return 1.0
    if len(pairs) == 1:
        return 1.0  # both signs are equally extreme
    result = stats.permutation_test(
        (pairs,),
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
    pairs = _finite(differences)
    if not pairs.any():
        return 0.0
    if len(pairs) == 1:
        return float("nan")
    spread = float(pairs.std(ddof=1))
    return float(pairs.mean() / spread) if spread else float(np.copysign(np.inf, pairs.mean()))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number (Holm 1979): the k-th smallest of m times m - k + 1, never decreasing.

    The risk that any of those below .05 afterwards is a false alarm is at most 5 %.
    """
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def paired_differences(
    table: pd.DataFrame, metric: str, ours: str, baseline: str, *, by: Sequence[str] = ("data", "seed")
) -> NDArray[np.float64]:
    """Differences of a metric between two variants of a study's table, one per common value of `by`.

    Args:
        table: as `run_study` returns it, with the columns "variant", `by` and `metric`.
        metric: name of a column.
        ours: name of a variant.
        baseline: name of another one, which is subtracted.
        by: the columns that make a pair. Several rows of a variant with equal values are averaged first: `by=["data"]`
            pairs by data set or partition, over the means of their seeds.

    Errors:
        PaSEError: a column or a variant is missing, or a value of `by` is there for one variant only.
    """
    if missing := [name for name in ("variant", metric, *by) if name not in table.columns]:
        raise PaSEError(f"The table has no column {missing[0]!r}; it has {', '.join(table.columns)}.")
    sides = []
    for name in (ours, baseline):
        rows = table[(table["variant"] == name) & table[metric].notna()]
        if rows.empty:
            variants = ", ".join(dict.fromkeys(table["variant"]))
            raise PaSEError(f"The table has no {metric} of the variant {name!r}; it has {variants}.")
        sides.append(rows.groupby(list(by), sort=True)[metric].mean())
    if not sides[0].index.equals(sides[1].index):
        alone = sides[0].index.symmetric_difference(sides[1].index)[0]
        raise PaSEError(
            f"{ours!r} and {baseline!r} do not pair: only one of them has {', '.join(by)} = {alone}; run both."
        )
    return np.asarray(sides[0] - sides[1], dtype=np.float64)


def against_baselines(
    table: pd.DataFrame,
    metric: str,
    ours: str,
    baselines: Sequence[str],
    *,
    by: Sequence[str] = ("data", "seed"),
    seed: int = 0,
) -> dict[str, Difference]:
    """Paired differences from each of several baselines, by name; p-values are corrected for their number (Holm).

    The arguments are those of `paired_differences`; `seed` is that of interval and test.
    """
    differences = {name: paired_differences(table, metric, ours, name, by=by) for name in baselines}
    p = {name: sign_flip_test(values, seed=seed) for name, values in differences.items()}
    corrected = holm(p)
    return {
        name: Difference(estimate(values, seed=seed), cohens_d(values), p[name], corrected[name])
        for name, values in differences.items()
    }


def cluster_draws(clusters: int, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """Bootstrap samples of clusters: how often each cluster is in each sample, [draws, clusters].

    A cluster is a video: its utterances are not independent, so that whole videos are drawn.
    """
    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)


def cluster_swaps(clusters: int, draws: int, seed: int = 0) -> tuple[Float[NDArray[np.float64], "d c"], bool]:
    """Permutations of a paired test over clusters.

    Under the null hypothesis, the two sides may be exchanged in any cluster.

    Returns:
        1 where a cluster changes sides and 0 elsewhere, [d, clusters]; and whether these are all 2^clusters ways, which
        they are where that is no more than `draws`.
    """
    if clusters < 60 and 2**clusters <= draws:
        numbers = np.arange(2**clusters)
        return (numbers[:, None] >> np.arange(clusters) & 1).astype(np.float64), True
    return np.random.default_rng(seed).integers(0, 2, size=(draws, clusters)).astype(np.float64), False


def permutation_p(observed: float, drawn: Float[NDArray[np.float64], " d"], exact: bool) -> float:
    """Two-sided p-value of a difference among those under the null hypothesis [d].

    Where these are drawn at random and not all (`exact`), the observed one counts among them, so that no p-value is 0.
    """
    tolerance = 1e-12 + 1e-9 * abs(observed)  # a sum in another order is rounded differently
    extreme = int((np.abs(drawn) >= abs(observed) - tolerance).sum())
    return extreme / len(drawn) if exact else (extreme + 1) / (len(drawn) + 1)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(values.mean(axis=axis))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise PaSEError(f"Statistics want one finite number or more in a row, found {numbers.tolist()}.")
    return numbers
