"""Further than the paper: are the measured contributions those of the synthetic benchmark's ground truth?

The benchmark is drawn from a known distribution, so that the contribution of each modality to the Bayes rule, the best
prediction that is possible, can be computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from scipy.stats import spearmanr

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.ground_truth import true_contributions
from pase_msa.data.synthetic.spec import SyntheticSpec
from pase_msa.data.table import ARROW
from pase_msa.errors import PaSEError
from pase_msa.evaluation.inference import predict_coalitions
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.evaluation.statistics import estimate
from pase_msa.objective import soft_cross_entropy
from pase_msa.paper import methods
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.panels import drawable, line, method_order, panels, spread
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.results import Results
from pase_msa.report.numbers import mean_sd
from pase_msa.report.style import MARKERS, short, styled
from pase_msa.shapley import coalitions, shapley_from_coalitions
from pase_msa.studies.cells import stable_key

DOMINANCE = (0.0, 2.0, 4.0)
NOISE = (0.4, 0.8, 1.6)


def variants(protocol: Protocol) -> dict[str, Options]:
    """Concatenation, and both versions of PaSE.

    Errors:
        PaSEError: the data are not the synthetic benchmark, the only data with a ground truth.
    """
    if "spec" not in protocol.table.meta:
        raise PaSEError(
            f"The ground truth of contributions is known for the synthetic benchmark only, not for {protocol.name}; "
            "leave --data out, or name a synthetic table."
        )
    return {"concat": methods.model("concat"), **methods.both_versions()}


def datasets(protocol: Protocol, root: Path) -> list[str]:
    """Folders of benchmarks that differ in one modality's dominance and noise."""
    specs = grid(SyntheticSpec.from_dict(protocol.table.meta["spec"]))
    return [str(_written(spec, root / "planted").resolve()) for spec in specs]


def _written(spec: SyntheticSpec, folder: Path) -> Path:
    """The table of a benchmark, drawn once."""
    name = next(iter(spec.modalities))
    part = spec.modalities[name]
    # what varies is readable in the name, the key stands for all of the benchmark
    key = stable_key(dataclasses.asdict(spec))
    path = folder / f"dominance{part.dominance:g}-noise{part.noise:g}-{key}"
    if not (path / ARROW).is_file():
        synthetic_table(spec, path=path)
    return path


def grid(
    spec: SyntheticSpec | None = None,
    modality: str | None = None,
    dominance: Sequence[float] = DOMINANCE,
    noise: Sequence[float] = NOISE,
) -> list[SyntheticSpec]:
    """Benchmarks that differ in one modality: how soon it is learned (dominance), and how noisy it is.

    Dominance leaves the true contributions as they are, noise changes them.

    Args:
        spec: what they have in common; the bundled benchmark if left out.
        modality: the one that varies; the first if left out.
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

    Both gains are over the prediction without any modality, in nats per utterance, on the run's split. The model's is
    in its own soft classes and the Bayes rule's in the true ones. So their order can be compared, their size only
    roughly.

    Args:
        runs: trained on the synthetic benchmark.
        modality: whose dominance and noise are in the columns; the first one if left out.

    Returns:
        Columns method, seed, split, dominance, noise, modality, measured, true, rho: Spearman's correlation of the two
        over the modalities of the run, empty where either does not differ between them.

    Errors:
        PaSEError: a run on other data.
    """
    rows = []
    for run in runs:
        if not run.table.meta.get("synthetic") or "spec" not in run.table.meta:
            raise PaSEError(
                f"{run.method} was trained on data without a ground truth of contributions; use the synthetic "
                "benchmark."
            )
        spec, names = SyntheticSpec.from_dict(run.table.meta["spec"]), run.task.modalities
        target = run.task.membership(run.labels)
        logits = predict_coalitions(run.model, run.dataset, coalitions(names))
        # the value of a coalition is its log-likelihood: minus its cross-entropy
        values = -torch.stack([soft_cross_entropy(part, target).mean() for part in logits]).double().numpy()
        measured = dict(zip(names, shapley_from_coalitions(values, len(names)), strict=True))
        true = true_contributions(spec, run.split, table=run.table)
        rho = rank_correlation([measured[n] for n in names], [true[n] for n in names])
        varied = spec.modalities[modality or next(iter(spec.modalities))]
        common = {**run.stamp, "dominance": varied.dominance, "noise": varied.noise}
        rows += [{**common, "modality": n, "measured": float(measured[n]), "true": true[n], "rho": rho} for n in names]
    return pd.DataFrame(rows)


def rank_correlation(measured: Sequence[float], true: Sequence[float]) -> float:
    """Spearman's; NaN where there are fewer than two values, or either side is constant.

    True contributions are computed, and those that are equal may differ in their last digits. Such values are ties,
    whose order must not count.
    """
    true = np.round(true, 6).tolist()
    if len(measured) < 2 or np.ptp(measured) == 0 or np.ptp(true) == 0:
        return float("nan")
    return float(spearmanr(measured, true).statistic)


def draw(frame: pd.DataFrame) -> MplFigure:
    """Left: measured against true contributions. Right: the rank correlation against dominance.

    Left one marker per method; right one line per method and noise, with a deviation over seeds.

    Args:
        frame: from `measure`.
    """
    drawable(frame, "method", "seed", "dominance", "noise", "measured", "true", "rho")
    with styled() as (ink, colors):
        figure, (left, right) = panels(2, width=5.4, height=4.4)
        _against_truth(left, frame, ink, colors)
        _against_dominance(right, frame, colors)
    return figure


def _against_truth(axes: Axes, frame: pd.DataFrame, ink: dict[str, str], colors: Sequence[str]) -> None:
    ends = [min(0.0, frame["measured"].min(), frame["true"].min()), max(frame["measured"].max(), frame["true"].max())]
    axes.plot(ends, ends, color=ink["muted"], linestyle="--", linewidth=1.0)
    for k, name in enumerate(method_order(frame)):
        own = frame[frame["method"] == name]
        pooled = rank_correlation(own["measured"].tolist(), own["true"].tolist())
        axes.scatter(
            own["true"],
            own["measured"],
            s=26,
            marker=MARKERS[k % len(MARKERS)],
            facecolor="none" if k % 2 else colors[k % len(colors)],
            edgecolor=colors[k % len(colors)],
            label=f"{short(name, 24)}: ρ = {pooled:.2f} over all points",
        )
    axes.set_xlabel("true contribution (nats per utterance)")
    axes.set_ylabel("measured contribution (nats per utterance)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=9.5)


def _against_dominance(axes: Axes, frame: pd.DataFrame, colors: Sequence[str]) -> None:
    runs = frame.drop_duplicates(["method", "seed", "dominance", "noise"])
    summary = spread(runs, ("method", "dominance", "noise"), "rho")
    for number, (name, noise) in enumerate(dict.fromkeys(zip(summary["method"], summary["noise"], strict=True))):
        rows = summary[(summary["method"] == name) & (summary["noise"] == noise)].sort_values("dominance")
        label = f"{name}, noise {noise:g}"
        line(axes, rows["dominance"], rows["mean"], rows["std"], label, number, colors, shift=0.06)
    axes.set_xlabel("dominance (factor on the modality's signal, minus 1)")
    axes.set_ylabel("rank correlation ρ within a run")
    axes.set_ylim(-1.1, 1.1)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8.5)


def build(results: Results) -> Section:
    """The rank correlation by method, dominance and noise, as a table and as a figure.

    Errors:
        PaSEError: no run is finished, or one was trained on other data.
    """
    frame = results.each_run(results.variants, lambda runs: measure(runs))
    runs = frame.drop_duplicates(["method", "seed", "dominance", "noise"])
    rows, data = [], []
    for (method, dominance, noise), part in runs.groupby(["method", "dominance", "noise"], sort=False):
        values = part["rho"].dropna()
        rows.append([str(method), f"{dominance:g}", f"{noise:g}", mean_sd(values, digits=2), str(len(values))])
        if len(values):
            setting = {"method": method, "dominance": dominance, "noise": noise}
            data.append({**setting, "measure": "rho", **vars(estimate(values))})
    for method, part in frame.groupby("method", sort=False):
        rho = rank_correlation(part["measured"].tolist(), part["true"].tolist())
        rows.append([str(method), "all", "all", f"{rho:.2f}", f"{len(part)} contributions"])
        data.append({"method": method, "measure": "rho over all", "mean": rho, "count": len(part)})
    title = "Rank correlation of measured and true contributions"
    columns = ["method", "dominance", "noise", "Spearman's ρ", "runs"]
    return Section(
        f"Ground truth of contributions on {results.protocol.name}",
        [Table("planted", title, columns, rows, pd.DataFrame(data))],
        [Figure("planted-recovery", "Measured against true contributions.", draw(frame), frame)],
        [
            "The correlation of one run is over its few modalities and has few possible values: read that over all "
            "contributions.",
            "Dominance leaves the true contributions as they are, noise changes them.",
        ],
        stem="planted",
    )
