"""Beyond the paper: robustness to noise in one modality at a time."""

from __future__ import annotations

import pandas as pd

from pase_msa.evaluation.statistics import estimate
from pase_msa.figures import noise
from pase_msa.figures.panels import scale
from pase_msa.report.numbers import metric_label
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part, Picture
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import plain
from pase_msa.reproduce.subject import Options, Subject


def variants(subject: Subject) -> dict[str, Options]:
    """Concatenation, and PaSE of either equilibrium."""
    ours = {name: methods.named(name) for name in (methods.PAPER, methods.PASE)}
    return {"concat": methods.model("concat"), **ours}


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    metric = found.subject.accuracy
    frame = found.each_run(found.variants, lambda runs: noise.measure(runs))
    mine = frame[frame["metric"] == metric]
    levels = sorted(mine["level"].unique())
    rows, data = [], []
    for (method, modality), part in mine.groupby(["method", "modality"], sort=False):
        line = [str(method), str(modality)]
        for level in levels:
            # draws of one seed are averaged first
            about = estimate(part[part["level"] == level].groupby("seed")["value"].mean())
            line.append(plain(about, scale(metric), 1))
            data.append({"method": method, "modality": modality, "level": level, "metric": metric, **vars(about)})
        rows.append([*line, str(part["seed"].nunique())])
    label = metric_label(metric)
    columns = ["method", "noise in", *(f"{level:g} sd" for level in levels), "seeds"]
    return Part(
        f"Noise on {found.subject.name}",
        [Grid("noise", f"{label} with noise in one modality", columns, rows, pd.DataFrame(data))],
        [Picture("noise-curves", f"{label} against the noise in one modality.", noise.draw(frame, metric), frame)],
        ["Gaussian noise in every frame, in deviations of each feature over the training split; draws are paired."],
    )
