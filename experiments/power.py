"""What being careful costs: verdicts and prediction weights against the number of videos.

    python -m experiments.power synthetic [--draws 20]
    python -m experiments.power real --data ../shared/data/mosi3 --modality vision [--draws 20]
    python -m experiments.power real --data runs/iemocap --label emotion4 --modality audio [--modalities text,audio]

How many videos until a deceiver of strength s is excluded, and how many until a truthful weak modality is called
useful? Until then each has some weight in the prediction: that of a deceiver is what is not yet saved, what a truthful
one lacks is what care costs.

- `synthetic`: beside a truthful modality stands one of known kind. Ten utterances a video; for each four training
  videos there is one of validation.
- `real`: of real data some training and validation videos are drawn, in the proportion that the split has. The test
  split is not read.

Nothing is trained but the closed-form reference. Tables and figures go to `experiments/results/power/`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec

DECEIVERS = {f"deceptive {s:g}": ModalitySpec(strength=0.0, noise=0.5, deception=s) for s in (0.1, 0.2, 0.3, 0.5, 1.0)}
WEAK = {f"truthful, noise {n:g}": ModalitySpec(noise=n) for n in (1.5, 2.5, 4.0, 6.0)}
IDENTITY = {f"identity, {s:g}": ModalitySpec(strength=0.0, identity=s) for s in (3.0, 6.0)}
CLUMPING = 0.5  # with identity: who speaks tells something only where the labels of a video resemble each other
VIDEOS = (10, 20, 40, 80, 160, 320)
RESULTS = Path("experiments/results/power")
UTTERANCES = 10  # of a video
RATIO = 4  # training videos for each of validation
Row = dict[str, Any]


def synthetic_draw(kind: str, videos: int, number: int) -> Row:
    """Verdict, weight and worth of a modality of a kind beside a truthful one."""
    from pase_msa import diagnose

    _one_thread()
    modality = {**DECEIVERS, **WEAK, **IDENTITY}[kind]
    spec = SyntheticSpec(
        {"truthful": ModalitySpec(), "examined": modality},
        train=UTTERANCES * videos,
        valid=UTTERANCES * max(videos // RATIO, 2),
        test=UTTERANCES,
        utterances_per_video=UTTERANCES,
        clumping=CLUMPING if kind in IDENTITY else 0.0,
        seed=1000 * videos + number,
    )
    return {"kind": kind, "videos": videos, "draw": number, **_found(diagnose(synthetic_table(spec)), "examined")}


def real_draw(options: argparse.Namespace, share: float, number: int) -> Row:
    """The same for a modality of real data, on a share of the training and of the validation videos."""
    from pase_msa.data.opening import open_data
    from pase_msa.data.problem import Problem, ProblemOptions
    from pase_msa.heldout.diagnose import diagnose_datasets

    _one_thread()
    names = options.modalities.split(",") if options.modalities else None
    problem = Problem.from_table(open_data(options.data), ProblemOptions(options.label, modalities=names))
    random = np.random.default_rng([number, round(1000 * share)])
    parts = [_some_videos(part, share, random) for part in (problem.train, problem.valid)]
    found = _found(diagnose_datasets(problem.task, parts[0], parts[1]), options.modality)
    videos = len(np.unique(parts[0].videos[parts[0].rows]))
    return {"kind": options.modality, "videos": videos, "draw": number, **found}


def _some_videos(dataset: Any, share: float, random: np.random.Generator) -> Any:
    videos: NDArray[np.int64] = np.unique(dataset.videos[dataset.rows])
    chosen = random.permutation(videos)[: max(round(share * len(videos)), 2)]
    return dataset.over(dataset.rows[np.isin(dataset.videos[dataset.rows], chosen)])


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _found(diagnosis: Any, name: str) -> Row:
    row = diagnosis.modalities[name]
    return {
        "verdict": row.verdict,
        "excluded": name in diagnosis.excluded,
        "weight": row.prediction_weight,
        "folds": row.evidence.grouped.value,
        "valid": row.evidence.valid.value,
    }


def summary(rows: Sequence[Row]) -> pd.DataFrame:
    """By kind and number of videos: shares of verdicts, and means of weight and worth."""
    frame = pd.DataFrame(rows)
    frame["useful"] = frame["verdict"] == "useful"
    grouped = frame.groupby(["kind", "videos"], sort=False)
    columns = ["excluded", "useful", "weight", "folds", "valid"]
    table = grouped[columns].mean().join(grouped["weight"].std().rename("weight_sd"))
    return table.join(grouped.size().rename("draws")).reset_index()


def lines(table: pd.DataFrame) -> list[str]:
    """The table in Markdown."""
    text = [
        "| modality | training videos | excluded | called useful | weight in the prediction | worth on folds, nats | "
        "on validation | draws |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return text + [
        f"| {row.kind} | {row.videos} | {100 * row.excluded:.0f} % | {100 * row.useful:.0f} % | "
        f"{row.weight:.2f} ± {row.weight_sd:.2f} | {row.folds:+.3f} | {row.valid:+.3f} | {row.draws} |"
        for row in table.itertuples()
    ]


def draw(table: pd.DataFrame, target: Path) -> None:
    """Two panels for deceivers (excluded, weight), two for truthful modalities (called useful, weight)."""
    from matplotlib.figure import Figure

    from pase_msa.report.style import DASHES, MARKERS, styled

    groups = [(DECEIVERS, "excluded", "excluded, % of draws"), (WEAK, "useful", "called useful, % of draws")]
    with styled() as (ink, colors):
        figure = Figure(figsize=(10.5, 7.4), layout="constrained")
        for (kinds, share, words), panels in zip(groups, figure.subplots(2, 2, sharex=True), strict=True):
            for number, kind in enumerate(kinds):
                part = table[table["kind"] == kind]
                look = {"color": colors[number], "marker": MARKERS[number], "linestyle": DASHES[number], "label": kind}
                panels[0].plot(part["videos"], 100 * part[share], **look)
                panels[1].plot(part["videos"], part["weight"], **look)
            panels[0].set(ylabel=words, ylim=(-3, 103))
            panels[1].set(ylabel="weight in the prediction", ylim=(-0.03, 1.03))
            panels[1].legend(frameon=False, fontsize=9)
        for axes in figure.axes:
            axes.set_xscale("log")
            axes.set_xticks(sorted(table["videos"].unique()), [str(v) for v in sorted(table["videos"].unique())])
            axes.minorticks_off()
            axes.grid(visible=True, color=ink["grid"])
        for axes in figure.axes[2:]:
            axes.set_xlabel("training videos (a quarter as many for validation)")
        figure.savefig(target, metadata={"Date": None})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["synthetic", "real"])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data")
    parser.add_argument("--label")
    parser.add_argument("--modality", help="that is examined")
    parser.add_argument("--modalities", help="those to use; all if left out")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.1, 0.2, 0.4, 0.7, 1.0], help="of the videos")
    options = parser.parse_args()
    workers = Parallel(n_jobs=options.jobs)
    if options.what == "synthetic":
        name = "synthetic"
        cells = [(k, v, n) for k in (*DECEIVERS, *IDENTITY, *WEAK) for v in VIDEOS for n in range(options.draws)]
        rows = workers(delayed(synthetic_draw)(*cell) for cell in cells)
    else:
        if not (options.data and options.modality):
            parser.error("real data want --data and --modality")
        name = f"{Path(options.data).name}-{options.modality}"
        # all videos are one draw
        drawn = [(s, n) for s in options.shares for n in range(options.draws if s < 1 else 1)]
        rows = workers(delayed(real_draw)(options, *cell) for cell in drawn)
    RESULTS.mkdir(parents=True, exist_ok=True)
    table = summary(rows)
    text = "\n".join(lines(table))
    (RESULTS / f"{name}.md").write_text(f"# Verdicts against the number of videos: {name}\n\n{text}\n")
    with (RESULTS / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if options.what == "synthetic":
        draw(table, RESULTS / f"{name}.svg")
    print(text)


if __name__ == "__main__":
    main()
