"""Figure 5: contributions of the modalities over the epochs, with SGM and without it."""

from __future__ import annotations

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.evaluation.statistics import estimate
from pase_msa.figures import phases
from pase_msa.report.numbers import metric_label
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part, Picture
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import mean_sd, plain
from pase_msa.reproduce.subject import Options, Subject

_NAMES = {methods.PAPER: "with SGM", methods.NO_SGM: "without SGM"}


def variants(subject: Subject) -> dict[str, Options]:
    """The equilibrium of the paper, and the same run without modulation."""
    return {name: methods.named(name) for name in _NAMES}


def build(found: Results) -> Part:
    """The plug-in's entry point.

    Errors:
        PaSEError: no seed has both runs.
    """
    metric = found.subject.accuracy
    both = {shown: found.folders(name) for name, shown in _NAMES.items()}
    seeds = sorted(set.intersection(*(set(folders) for folders in both.values())))
    if not seeds:
        raise PaSEError("Figure 5 wants a run with SGM and one without it of the same seed, and found none.")
    frames = [
        phases.measure({shown: folders[seed] for shown, folders in both.items()}, metric).assign(seed=seed)
        for seed in seeds
    ]
    data = pd.concat(frames, ignore_index=True)
    ends = _ends(data)
    rows = []
    for method, part in ends.groupby("method", sort=False):
        line = [str(method)]
        for name in [column for column in ends if str(column).startswith("share of ")]:
            about = estimate(part[name])
            line.append(plain(about, 100, 1))
        line += [mean_sd(metric, part["best"].tolist()), f"{int(part['acted'].sum())} of {len(part)}"]
        rows.append(line)
    shares = [str(column) for column in ends if str(column).startswith("share of ")]
    label = metric_label(metric)
    columns = ["run", *(f"{name}, %" for name in shares), f"best validation {label}", "runs in which SGM acted"]
    return Part(
        f"Figure 5: contributions over the epochs on {found.subject.name}",
        [Grid("figure5-ends", "Shares of the Shapley values at the last epoch, all seeds", columns, rows, ends)],
        [
            Picture(
                "figure5",
                f"Shapley values of eq. 19 and validation {label} over the epochs, seed {seeds[0]}.",
                phases.draw(frames[0]),
                data,
            )
        ],
        [
            "Shapley values of eq. 19 are measured on training batches: balanced ones say nothing about new data.",
            "The metric is on the validation split, as logged in training. The dashed line is where SGM came on.",
        ],
    )


def _ends(data: pd.DataFrame) -> pd.DataFrame:
    """One row a run: each modality's share of the last epoch's values, the best metric, whether SGM acted."""
    rows = []
    for (method, seed), run in data.groupby(["method", "seed"], sort=False):
        psi = run[run["quantity"] == "psi"].dropna(subset=["value"])
        last = psi[psi["epoch"] == psi["epoch"].max()]
        total = last["value"].clip(lower=0).sum()
        shares = {
            f"share of {row.modality}": max(row.value, 0.0) / total if total else float("nan")
            for row in last.itertuples()
        }
        best = run[run["quantity"] == "metric"]["value"].max()
        rows.append({"method": method, "seed": seed, **shares, "best": best, "acted": bool(run["active"].any())})
    return pd.DataFrame(rows)
