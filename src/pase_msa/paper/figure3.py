"""Figure 3: the fused features in a plane by t-SNE, and how separable the classes are in the features themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import calinski_harabasz_score, silhouette_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.evaluation.statistics import estimate
from pase_msa.paper import methods
from pase_msa.paper.grouping import groups
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.panels import drawable, legend_below, method_order, panels
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.results import Results
from pase_msa.report.numbers import mean_sd
from pase_msa.report.style import MARKERS, short, styled

NEIGHBOURS = 10
FOLDS = 5
_LEAST = 10  # utterances
_HEADINGS = {
    "silhouette": "silhouette",
    "ratio": "between/within",
    "knn": "kNN accuracy",
    "probe": "linear probe",
    "chance": "chance",
}
Points = NDArray[np.float64]


def variants(protocol: Protocol) -> dict[str, Options]:
    """Baselines with a fused vector, and both versions of PaSE."""
    baselines = ["concat"] + (["lmf"] if "lmf" in methods.baselines() and protocol.text == "frozen" else [])
    return {**{name: methods.model(name) for name in baselines}, **methods.both_versions()}


def fused(run: LoadedRun) -> Points:
    """The features that the head of a model gets, [N, F]; of a mixture of coalitions those of the heaviest one.

    Errors:
        PaSEError: the model has none.
    """
    parts = [output.fused for output in run.outputs()]
    if any(part is None or part.ndim != 2 for part in parts):
        raise PaSEError(f"{run.method} gives no fused features (Outputs.fused, [N, F]); leave it out of this figure.")
    return torch.cat([part.double().cpu() for part in parts]).numpy()


def measure(runs: Sequence[LoadedRun], *, perplexity: float = 30.0, seed: int = 0) -> pd.DataFrame:
    """The position of each utterance's fused features in a plane, by t-SNE (van der Maaten and Hinton, 2008).

    Args:
        runs: one per method.
        perplexity: lowered to a third of the utterances where there are few.
        seed: of t-SNE, which begins from the first two principal components.

    Returns:
        Columns method, seed, split, id, group (class or polarity), score (regression, else empty), x, y.

    Errors:
        PaSEError: fewer than 10 utterances, or a model without fused features.
    """
    frames = []
    for run in runs:
        if len(run.dataset) < _LEAST:
            raise PaSEError(f"t-SNE wants {_LEAST} utterances or more, the {run.split} split has {len(run.dataset)}.")
        plane = TSNE(
            perplexity=min(perplexity, (len(run.dataset) - 1) / 3), init="pca", random_state=seed, n_jobs=1
        ).fit_transform(fused(run))
        frames.append(
            pd.DataFrame(
                {
                    **run.stamp,
                    "id": [run.table.ids[row] for row in run.dataset.rows],
                    "group": groups(run)[0],
                    "score": run.labels.numpy() if run.task.kind == "regression" else np.nan,
                    "x": plane[:, 0],
                    "y": plane[:, 1],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def separation(runs: Sequence[LoadedRun], points: pd.DataFrame | None = None) -> pd.DataFrame:
    """How separable the groups are in the fused features and, to compare, in a plane of them.

    t-SNE draws clusters apart that are not apart, so a claim rests on `space` "fused", never on "plane".

    Args:
        runs: as for `measure`.
        points: from `measure`, for the rows of "plane".

    Returns:
        Columns method, seed, split, space ("fused" or "plane"), measure, value; see `separation_metrics`.

    Errors:
        PaSEError: only one group, or only one video.
    """
    rows = []
    for run in runs:
        spaces = {"fused": fused(run)}
        if points is not None:
            plane = points[(points["method"] == run.method) & (points["seed"] == run.seed)]
            spaces["plane"] = plane[["x", "y"]].to_numpy(dtype=np.float64)
        for space, values in spaces.items():
            metrics = separation_metrics(values, groups(run)[0], run.videos)
            rows += [{**run.stamp, "space": space, "measure": name, "value": value} for name, value in metrics.items()]
    return pd.DataFrame(rows)


def separation_metrics(values: Points, names: NDArray[Any], videos: NDArray[np.int64]) -> dict[str, float]:
    """Measures of how separable groups of points are.

    Args:
        values: points, [N, F].
        names: group of each point, [N].
        videos: number of its video, [N].

    Returns:
        "silhouette" (mean, Euclidean); "ratio", the sum of squares between groups over that within; "knn" and "probe",
        the accuracy of 10 nearest neighbours and of a logistic regression on standardised features, by folds that keep
        the utterances of a video together; "chance", the share of the largest group.

    Errors:
        PaSEError: only one group, or only one video.
    """
    _, sizes = np.unique(names, return_counts=True)
    folds = min(FOLDS, len(np.unique(videos)))
    if len(sizes) < 2 or len(names) <= len(sizes) or folds < 2:
        raise PaSEError(
            f"Separation wants two groups in two videos or more, found {len(sizes)} groups of {len(names)} utterances "
            f"in {len(np.unique(videos))} videos."
        )
    # neighbours from the same video would reveal its label
    split = GroupKFold(folds)
    smallest = min(len(train) for train, _ in split.split(values, groups=videos))
    models = {
        "knn": KNeighborsClassifier(min(NEIGHBOURS, smallest)),
        "probe": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000)),
    }
    # Calinski-Harabasz is the ratio times its degrees of freedom
    freedom = (len(names) - len(sizes)) / (len(sizes) - 1)
    metrics = {
        "silhouette": float(silhouette_score(values, names)),
        "ratio": float(calinski_harabasz_score(values, names)) / freedom,
    }
    for name, model in models.items():
        predicted = cross_val_predict(model, values, names, groups=videos, cv=split)
        metrics[name] = float(np.mean(predicted == names))
    return metrics | {"chance": float(sizes.max() / len(names))}


def draw(
    points: pd.DataFrame, separations: pd.DataFrame | None = None, *, by: Literal["group", "score"] = "group"
) -> MplFigure:
    """One panel per run; points by group (marker and colour) or by score (brightness), with the measures below.

    Args:
        points: from `measure`.
        separations: from `separation`; no measures if left out.
        by: what decides over the look of a point.

    Errors:
        PaSEError: no points, or classes that are to be drawn by score.
    """
    drawable(points, "method", "seed", "group", "score", "x", "y")
    keys = list(dict.fromkeys(zip(points["method"], points["seed"], strict=True)))
    several = len(keys) > len(method_order(points))
    if by == "score" and points["score"].isna().all():
        raise PaSEError("Points are coloured by score in a regression only; draw them by 'group'.")
    order = _order(points)
    with styled() as (ink, colors):
        figure, axes = panels(len(keys), width=3.7, height=4.2)
        shades = None
        for (name, seed), part in zip(keys, axes, strict=True):
            own = points[(points["method"] == name) & (points["seed"] == seed)]
            if by == "score":
                shades = part.scatter(
                    own["x"], own["y"], c=own["score"], s=18, cmap="cividis", edgecolor=ink["ink"], linewidth=0.3
                )
            else:
                for k, group in enumerate(order):
                    rows = own[own["group"] == group]
                    number = k % len(colors)
                    filled = k % 2 == 0  # for print in grey: filled and hollow in turn
                    part.scatter(
                        rows["x"],
                        rows["y"],
                        s=20,
                        marker=MARKERS[number],
                        facecolor=colors[number] if filled else "none",
                        edgecolor=ink["page"] if filled else colors[number],
                        linewidth=0.4 if filled else 1.1,
                        label=short(group),
                    )
            part.set_title(short(name, 34) + (f", seed {seed}" if several else ""), fontsize=11)
            part.set_xticks([])
            part.set_yticks([])
            part.set_xlabel(_measures(separations, name, seed), fontsize=9, color=ink["ink"], family="monospace")
        axes[0].set_ylabel("t-SNE plane (no unit)")
        if shades is not None:
            figure.colorbar(shades, ax=axes, label="true score", shrink=0.7)
        else:
            legend_below(figure, axes, 6)
    return figure


def _order(points: pd.DataFrame) -> list[str]:
    """Groups by their mean score; classes in the order of appearance."""
    means = points.groupby("group", sort=False)["score"].mean()
    return list(means.index if means.isna().any() else means.sort_values().index)


def _measures(separations: pd.DataFrame | None, name: str, seed: int) -> str:
    """The measures of a run as a small table: one line per measure, one column per space."""
    if separations is None:
        return "t-SNE plane (no unit)"
    own = separations[(separations["method"] == name) & (separations["seed"] == seed)]
    spaces = list(dict.fromkeys(own["space"]))
    words = {"fused": "features", "plane": "plane"}
    lines = [" " * 15 + "".join(f"{words[space]:>10}" for space in spaces)]
    for key, word in (_HEADINGS | {"knn": "kNN"}).items():
        values = own[own["measure"] == key].set_index("space")["value"]
        lines.append(f"{word:<15}" + "".join(f"{values[space]:>10.2f}" for space in spaces))
    return "\n".join(lines)


def build(results: Results) -> Section:
    """The measures of separation over all seeds, and the plane of the first seed.

    Errors:
        PaSEError: no run is finished, or as in `measure` and `separation`.
    """
    order = results.variants
    points = results.each_run(order, lambda runs: measure(runs), first=True)
    first_seed = results.each_run(order, lambda runs: separation(runs, points), first=True)
    all_seeds = results.each_run(order, lambda runs: separation(runs))
    rows, data = [], []
    for method in order:
        own = all_seeds[all_seeds["method"] == method]
        line = [method]
        for key in _HEADINGS:
            values = own[own["measure"] == key]["value"]
            line.append(mean_sd(values))
            data.append({"method": method, "measure": key, **vars(estimate(values))})
        rows.append([*line, str(own["seed"].nunique())])
    columns = ["method", *_HEADINGS.values(), "seeds"]
    # what is published with a figure names no utterance and has no label of one: many data sets forbid both
    shown = points.drop(columns=["id", "score"])
    title = "Separation of the groups in the fused features, all seeds"
    return Section(
        f"Figure 3: fused features on {results.protocol.name}",
        [Table("figure3-separation", title, columns, rows, pd.DataFrame(data))],
        [Figure("figure3", "Fused features in a plane by t-SNE, first seed.", draw(points, first_seed), shown)],
        [
            "Measured on the features themselves. Accuracies are by folds that keep the utterances of a video "
            "together.",
            "The plane by t-SNE draws clusters apart that are not apart in the features. A claim rests on the table, "
            "not on the plane.",
        ],
    )
