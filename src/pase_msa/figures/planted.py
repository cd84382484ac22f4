"""Beyond the paper: whether a model's contributions are those that were planted in the synthetic benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from pase_msa.data.synthetic.ground_truth import true_contributions
from pase_msa.data.synthetic.spec import SyntheticSpec
from pase_msa.errors import PaSEError
from pase_msa.evaluation.inference import predict_coalitions
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.figures.panels import line, methods, panels, spread
from pase_msa.objective import soft_cross_entropy
from pase_msa.report.style import MARKERS, short, styled
from pase_msa.shapley import coalitions, shapley_from_coalitions

DOMINANCE = (0.0, 2.0, 4.0)
NOISE = (0.4, 0.8, 1.6)


def grid(
    spec: SyntheticSpec | None = None,
    modality: str | None = None,
    dominance: Sequence[float] = DOMINANCE,
    noise: Sequence[float] = NOISE,
) -> list[SyntheticSpec]:
    """Benchmarks that differ in one modality: how soon it is learned (dominance), and how much it tells (noise).

    Dominance leaves the planted contributions as they are, noise moves them.

    Args:
        spec: what they have in common; the bundled benchmark if left out.
        modality: which one; the first if left out.
        dominance: of that modality.
        noise: of that modality.

    Errors:
        PaSEError: an unknown modality.
    """
    base = SyntheticSpec() if spec is None else spec
    name = next(iter(base.modalities)) if modality is None else modality
    if name not in base.modalities:
        raise PaSEError(f"The benchmark has the modalities {', '.join(base.modalities)}, not {name!r}.")
    changed = [dataclasses.replace(base.modalities[name], dominance=d, noise=n) for d in dominance for n in noise]
    return [dataclasses.replace(base, modalities={**base.modalities, name: part}) for part in changed]


def measure(runs: Sequence[LoadedRun], modality: str | None = None) -> pd.DataFrame:
    """Shapley values of the model's gain in log-likelihood, beside those of the exact Bayes rule.

    Both gains are over the prediction without any modality, in nats an utterance, on the run's split. A model's is in
    its own soft classes and the Bayes rule's in the planted ones, so that order can be compared, and size only roughly.

    Args:
        runs: trained on the synthetic benchmark.
        modality: whose dominance and noise are told; the first one's if left out.

    Returns:
        Columns method, seed, split, dominance, noise, modality, found, planted, rho: Spearman's correlation of the two
        over the modalities of the run, empty where either does not differ between them.

    Errors:
        PaSEError: a run on other data.
    """
    rows = []
    for run in runs:
        if not run.table.meta.get("synthetic") or "spec" not in run.table.meta:
            raise PaSEError(
                f"{run.method} was trained on data without planted contributions; use the synthetic benchmark."
            )
        spec, names = SyntheticSpec.from_dict(run.table.meta["spec"]), run.task.modalities
        target = run.task.membership(run.labels)
        logits = predict_coalitions(run.model, run.dataset, coalitions(names))
        values = -torch.stack([soft_cross_entropy(said, target).mean() for said in logits]).double().numpy()
        found = dict(zip(names, shapley_from_coalitions(values, len(names)), strict=True))
        planted = true_contributions(spec, run.split, table=run.table)
        rho = rank_correlation([found[n] for n in names], [planted[n] for n in names])
        varied = spec.modalities[modality or next(iter(spec.modalities))]
        common = {**run.stamp, "dominance": varied.dominance, "noise": varied.noise}
        rows += [{**common, "modality": n, "found": float(found[n]), "planted": planted[n], "rho": rho} for n in names]
    return pd.DataFrame(rows)


def rank_correlation(found: Sequence[float], planted: Sequence[float]) -> float:
    """Spearman's; NaN where there are fewer than two values, or either side is constant.

    What is planted is computed, and differs in its last digits between sets in which it is the same: such values are
    ties, whose order is not to be guessed.
    """
    planted = np.round(planted, 6).tolist()
    if len(found) < 2 or np.ptp(found) == 0 or np.ptp(planted) == 0:
        return float("nan")
    return float(spearmanr(found, planted).statistic)


def draw(frame: pd.DataFrame) -> Figure:
    """Left: found against planted, a marker a method. Right: the rank correlation against dominance, a line a method
    and noise, with a deviation over seeds."""
    names = methods(frame)
    with styled() as (ink, colors):
        figure, (left, right) = panels(2, width=5.4, height=4.4)
        ends = [
            min(0.0, frame["found"].min(), frame["planted"].min()),
            max(frame["found"].max(), frame["planted"].max()),
        ]
        left.plot(ends, ends, color=ink["muted"], linestyle="--", linewidth=1.0)
        for k, name in enumerate(names):
            mine = frame[frame["method"] == name]
            pooled = rank_correlation(mine["found"].tolist(), mine["planted"].tolist())
            left.scatter(
                mine["planted"],
                mine["found"],
                s=26,
                marker=MARKERS[k % len(MARKERS)],
                facecolor="none" if k % 2 else colors[k % len(colors)],
                edgecolor=colors[k % len(colors)],
                label=f"{short(name, 24)}: ρ = {pooled:.2f} over all points",
            )
        left.set_xlabel("planted contribution (nats an utterance)")
        left.set_ylabel("found contribution (nats)")
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=9.5)
        runs = frame.drop_duplicates(["method", "seed", "dominance", "noise"])
        found = spread(runs, ("method", "dominance", "noise"), "rho")
        lines = list(dict.fromkeys(zip(found["method"], found["noise"], strict=True)))
        for number, (name, noise) in enumerate(lines):
            rows = found[(found["method"] == name) & (found["noise"] == noise)].sort_values("dominance")
            line(
                right,
                rows["dominance"],
                rows["mean"],
                rows["std"],
                f"{name}, noise {noise:g}",
                number,
                colors,
                shift=0.06,
            )
        right.set_xlabel("dominance (stretch of what is told, less 1)")
        right.set_ylabel("rank correlation ρ within a run")
        right.set_ylim(-1.1, 1.1)
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8.5)
    return figure
