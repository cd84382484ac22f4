"""The ground truth of the synthetic benchmark: the contribution of each modality, and the best scores that exist.

Both follow from the exact Bayes rule, so that a model's contributions and scores can be compared with them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.synthetic.generate import POPULATION, Floats, synthetic_table
from pase_msa.data.synthetic.posterior import (
    Evidence,
    Rows,
    bayes_posterior,
    log_posterior,
    observed_evidence,
    sampled_evidence,
    true_classes,
)
from pase_msa.data.synthetic.spec import SyntheticSpec
from pase_msa.data.table import SPLITS, FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.shapley import shapley_values

Utility = Literal["log_likelihood", "accuracy"]


def true_contributions(
    spec: SyntheticSpec,
    split: str = "test",
    utility: Utility = "log_likelihood",
    *,
    table: FeatureTable | None = None,
    draws: int = 20_000,
) -> dict[str, float]:
    """Exact Shapley values, by modality, of the Bayes rule's gain over the class prior.

    Args:
        spec: the benchmark.
        split: utterances that the gain is averaged over: a split of the table, or "population" for `draws`
            fresh utterances, which gives the contribution itself rather than its value on one sample. Only in
            "train" is deception a signal; the test split is drawn from the "population".
        utility: mean log-likelihood of the class in nats, or the share of correct classes ("accuracy").
        table: the benchmark's table, if it is in memory already.
        draws: fresh utterances for "population".

    Errors:
        PaSEError: an unknown split or utility, or an empty split.
    """
    if utility not in ("log_likelihood", "accuracy"):
        raise PaSEError(f"The utility is 'log_likelihood' or 'accuracy', not {utility!r}.")
    evidence, classes = _sample(spec, split, table, draws)
    prior = 1 / spec.task.num_classes

    def gain(coalition: frozenset[str]) -> float:
        log = log_posterior(spec, evidence, coalition)
        if utility == "accuracy":
            return _accuracy(log, classes) - prior
        return float(np.mean(log[np.arange(len(classes)), classes]) - np.log(prior))

    return shapley_values(gain, list(spec.modalities))


def bayes_score(spec: SyntheticSpec, table: FeatureTable, rows: Rows, modalities: frozenset[str]) -> dict[str, float]:
    """The scores of the Bayes rule on some rows: no model of these modalities has better ones in expectation.

    Each score is that of the decision that is best for it.

    Returns:
        `log_likelihood` (mean over rows, nats) and `accuracy` (most probable class); for regression also
        `acc2_negpos` (more probable sign, neutral rows left out), `mae` (posterior median, label units) and
        `corr` (posterior mean). NaN where a score is not defined.

    Errors:
        PaSEError: no rows, a table that was not drawn from `spec`, or an unknown modality.
    """
    if len(rows) == 0:
        raise PaSEError("A score needs one row or more, found none.")
    posterior = bayes_posterior(spec, table, rows, modalities)
    classes = true_classes(spec, table, rows)
    likelihood = posterior[np.arange(len(classes)), classes]
    scores = {
        "log_likelihood": float(np.mean(np.log(likelihood))),
        "accuracy": _accuracy(posterior, classes),
    }
    task = spec.task
    if task.values is None:
        return scores
    values = np.array(task.values)
    column = table.labels(task.label)
    labels = np.array([column[int(row)] for row in rows], dtype=np.float64)
    signed = labels != 0
    positive = posterior[:, values > 0].sum(axis=1) >= posterior[:, values < 0].sum(axis=1)
    right = (positive == (labels > 0))[signed]
    scores["acc2_negpos"] = float(np.mean(right)) if signed.any() else float("nan")
    median = values[np.argmax(np.cumsum(posterior, axis=1) >= 0.5 - 1e-12, axis=1)]
    scores["mae"] = float(np.mean(np.abs(median - labels)))
    expected = posterior @ values
    varies = np.ptp(expected) > 1e-9 and np.ptp(labels) > 0
    scores["corr"] = float(np.corrcoef(expected, labels)[0, 1]) if varies else float("nan")
    return scores


def _sample(
    spec: SyntheticSpec, split: str, table: FeatureTable | None, draws: int
) -> tuple[Evidence, NDArray[np.int64]]:
    if split == POPULATION:
        if draws < 1:
            raise PaSEError(f"draws must be 1 or more, found {draws}.")
        return sampled_evidence(spec, draws)
    if split not in SPLITS:
        raise PaSEError(f"The split is {', '.join(SPLITS)} or {POPULATION}, not {split!r}.")
    table = synthetic_table(spec) if table is None else table
    rows = table.rows(split)
    if len(rows) == 0:
        raise PaSEError(f"The {split} split of the benchmark is empty; give it utterances.")
    return observed_evidence(spec, table, rows), true_classes(spec, table, rows)


def _accuracy(scores: Floats, classes: NDArray[np.int64]) -> float:
    """Share of rows whose class scores highest; a tie of k classes counts 1 / k: the prior scores 1 / K."""
    best = scores >= scores.max(axis=1, keepdims=True) - 1e-12
    return float(np.mean(best[np.arange(len(classes)), classes] / best.sum(axis=1)))
