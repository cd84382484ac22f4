"""Figure 4: how far the gates of the fusion are open, by modality and class."""

from __future__ import annotations

import pandas as pd

from pase_msa.evaluation.statistics import estimate
from pase_msa.figures import gates
from pase_msa.figures.quoted import quoted
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part, Picture
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import plain
from pase_msa.reproduce.subject import Options, Subject


def variants(subject: Subject) -> dict[str, Options]:
    """PaSE of either equilibrium."""
    return {name: methods.named(name) for name in (methods.PAPER, methods.PASE)}


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    frame = found.each_run(found.variants, lambda runs: gates.measure(runs))
    rows, data = [], []
    for (method, group, modality), part in frame.groupby(["method", "group", "modality"], sort=False):
        line = [str(method), str(group), str(modality)]
        for column in ("gate", "share"):
            known = part[column].dropna()
            about = estimate(known) if len(known) else None
            line.append("none" if about is None else plain(about))
            if about is not None:
                data.append({"method": method, "group": group, "modality": modality, "value": column, **vars(about)})
        rows.append([*line, str(part["seed"].nunique())])
    notes = ["± is the deviation over seeds of the class's mean; that over utterances is in the heat map."]
    if found.subject.quoted == "iemocap":
        said = ", ".join(f"{row.metric} {row.value:.3f}" for row in quoted("figure4").itertuples())
        notes.append(f"Quoted from the paper's text: {said}.")
    notes.append("Gates begin open at .88. Where all cells look alike they have hardly moved, and that is the finding.")
    title = "Mean gate, and its share among the modalities"
    columns = ["method", "class", "modality", "gate", "share", "seeds"]
    return Part(
        f"Figure 4: gates of the fusion on {found.subject.name}",
        [Grid("figure4-means", title, columns, rows, pd.DataFrame(data))],
        [
            Picture("figure4", "Share of the gates by class and modality.", gates.draw(frame, "share"), frame),
            Picture("figure4-gates", "The gates themselves.", gates.draw(frame, "gate"), frame),
        ],
        notes,
    )
