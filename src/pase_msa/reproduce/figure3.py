"""Figure 3: the fused features in a plane, and how well they tell the classes apart where they really lie."""

from __future__ import annotations

import pandas as pd

from pase_msa.evaluation.statistics import estimate
from pase_msa.figures import features
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part, Picture
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import plain
from pase_msa.reproduce.subject import Options, Subject

_MEASURES = {
    "silhouette": "silhouette",
    "ratio": "between/within",
    "knn": "kNN accuracy",
    "probe": "linear probe",
    "chance": "chance",
}


def variants(subject: Subject) -> dict[str, Options]:
    """Rivals with a fused vector, and PaSE."""
    rivals = ["concat"] + (["lmf"] if "lmf" in methods.rivals() and subject.text == "frozen" else [])
    ours = {name: methods.named(name) for name in (methods.PAPER, methods.PASE)}
    return {**{name: methods.model(name) for name in rivals}, **ours}


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    order = found.variants
    points = found.each_run(order, lambda runs: features.measure(runs), first=True)
    shown = found.each_run(order, lambda runs: features.separation(runs, points), first=True)
    apart = found.each_run(order, lambda runs: features.separation(runs))
    rows, data = [], []
    for method in order:
        mine = apart[apart["method"] == method]
        line = [method]
        for key in _MEASURES:
            about = estimate(mine[mine["measure"] == key]["value"])
            line.append(plain(about))
            data.append({"method": method, "measure": key, **vars(about)})
        rows.append([*line, str(mine["seed"].nunique())])
    columns = ["method", *_MEASURES.values(), "seeds"]
    title = "How well the fused features tell the groups apart, all seeds"
    return Part(
        f"Figure 3: fused features on {found.subject.name}",
        [Grid("figure3-separation", title, columns, rows, pd.DataFrame(data))],
        [Picture("figure3", "t-SNE of the fused features, first seed.", features.draw(points, shown), points)],
        [
            "Measured on the features themselves, accuracies by folds that keep a video together. t-SNE draws clusters "
            "apart that are not: the plane shows, the table counts.",
        ],
    )
