"""Whether adding modalities ever costs accuracy: every method against the best single modality or subset, paired.

    python -m experiments.noharm standard   --data ../shared/data/mosi3 --seeds 10
    python -m experiments.noharm partitions --data ../shared/data/mosi --seeds 3
    python -m experiments.noharm partitions --data ../shared/data/mosi --count 4 --seeds 1 --fine-tuned --development
    python -m experiments.noharm synthetic  --draws 20

- `standard`: the split of the data, seeds 1 to N. Differences are paired by seed and, with an interval from a bootstrap
  over test videos, by utterance.
- `partitions`: ten random partitions by video (`experiments.partitions`), every method with every seed on each.
  Differences are paired by partition. `--development` draws other partitions, on which choices may be made.
- `synthetic`: the cases of `experiments.synthetic_cases`, one fresh data set per draw.

Epochs, coalition weights and everything else are chosen on validation; the test split is read once per run. Finished
runs are kept under `runs/noharm`, tables go to `experiments/results/`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from experiments.partitions import DEVELOPMENT, SEED, partition
from experiments.synthetic_cases import CASES
from pase_msa.data import FeatureTable, open_table
from pase_msa.evaluation.statistics import sign_flip_test
from pase_msa.heldout.pooling import pool
from pase_msa.studies.study import held, merge
from pase_msa.studies.training_cell import train_and_evaluate

METRICS = {"acc2_negpos": (100, 1), "mae": (1, 3), "corr": (1, 3)}
RESULTS = Path("experiments/results")
Rows = list[dict[str, Any]]
Job = tuple[str, str, str, int, dict[str, Any]]
"""Variant, unit (a seed, partition or draw), data, seed, options."""
CONCAT: dict[str, Any] = {"model": {"name": "concat"}}
METHODS: dict[str, dict[str, Any]] = {
    "concat": CONCAT,
    "paper": {"balancing": {"name": "sgm"}},
    "held-out": {"balancing": {"name": "held_out"}},
}


def best_single(data: str) -> str:
    """The best modality of these data by a wide margin: text where there is any, else audio (see the ledger)."""
    return "text" if "text" in held(open_table(data)) else "audio"


def alone(name: str) -> dict[str, dict[str, Any]]:
    """The variant with one modality and the same encoder."""
    return {name: {**CONCAT, "modalities": [name]}}


def fine_tuned() -> dict[str, dict[str, Any]]:
    """Text alone and the methods with fine-tuned text, as in `experiments/finetuned.yaml`."""
    study = yaml.safe_load(Path("experiments/finetuned.yaml").read_text())
    names = {"text": "text", "concat": "concat", "paper": "PaSE paper", "held-out": "PaSE"}
    return {variant: merge(study["base"], study["variants"][name]) for variant, name in names.items()}


def run_all(jobs: Sequence[Job], root: Path, workers: int) -> Rows:
    """Train and evaluate every job in parallel; one row of test metrics per job."""

    def slug(*parts: Any) -> str:
        return "-".join(str(part).replace(" ", "_") for part in parts)

    results = Parallel(n_jobs=workers, verbose=5)(
        delayed(train_and_evaluate)(
            {"training": {"threads": 1}} | options, data, seed, str(root / slug(unit, variant, seed)), True
        )
        for variant, unit, data, seed, options in jobs
    )
    return [
        {"variant": variant, "unit": unit, "seed": seed, "seconds": row["seconds"]}
        | {m: row["test"][m] for m in METRICS}
        for (variant, unit, _, seed, _), row in zip(jobs, results, strict=True)
    ]


def on_folders(folders: Sequence[str], methods: Mapping[str, dict[str, Any]], seeds: int) -> list[Job]:
    """Every method with seeds 1 to N on every folder, such as partitions; a folder is a unit."""
    return [
        (variant, Path(folder).name, folder, seed, options)
        for folder in folders
        for variant, options in methods.items()
        for seed in range(1, seeds + 1)
    ]


def by_unit(rows: Rows, variant: str, metric: str) -> NDArray[np.float64]:
    """One value per unit: the mean over its seeds, as the field prints it (percent or label units)."""
    units = list(dict.fromkeys(row["unit"] for row in rows))
    chosen = [[r[metric] for r in rows if r["variant"] == variant and r["unit"] == unit] for unit in units]
    return METRICS[metric][0] * np.array([statistics.mean(values) for values in chosen])


def paired(differences: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Mean of paired differences, its 95 % interval (Student), and the two-sided p-value of the sign-flip test."""
    count, mean = len(differences), float(differences.mean())
    half = float(student.ppf(0.975, count - 1) * differences.std(ddof=1) / count**0.5)
    return mean, mean - half, mean + half, sign_flip_test(differences)


def table(rows: Rows) -> str:
    """Mean and standard deviation over units."""
    lines = ["| variant | " + " | ".join(METRICS) + " |", "| --- |" + " --- |" * len(METRICS)]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        texts = []
        for metric, (_, digits) in METRICS.items():
            values = by_unit(rows, variant, metric)
            texts.append(f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}")
        lines.append(f"| {variant} | {' | '.join(texts)} |")
    return "\n".join(lines)


def comparison(rows: Rows, ours: Sequence[str], baselines: Sequence[str]) -> str:
    """Paired differences, ours minus the baseline's."""
    lines = ["| ours minus baseline | " + " | ".join(METRICS) + " |", "| --- |" + " --- |" * len(METRICS)]
    for mine, baseline in itertools.product(ours, baselines):
        if mine == baseline:
            continue
        texts = []
        for metric, (_, digits) in METRICS.items():
            mean, low, high, p = paired(by_unit(rows, mine, metric) - by_unit(rows, baseline, metric))
            places = digits + 1 if metric == "acc2_negpos" else digits
            texts.append(f"{mean:+.{places}f} [{low:+.{places}f}, {high:+.{places}f}] p {p:.3f}")
        lines.append(f"| {mine} - {baseline} | {' | '.join(texts)} |")
    return "\n".join(lines)


def by_video(root: Path, data: str, seeds: Sequence[int], mine: str, baseline: str, draws: int = 2000) -> str:
    """Paired bootstrap over test videos of the mean over seeds: accuracy (points) and correlation."""
    from pase_msa.serve.predictor import Predictor
    from pase_msa.training.run_folder import RunFolder

    tables = open_table(data)
    rows = tables.rows("test")
    label = next(iter(tables.schema.labels))
    truth = np.array([tables.labels(label)[row] for row in rows], dtype=float)
    videos = np.unique(np.array(tables.videos)[rows], return_inverse=True)[1]

    def scores(variant: str) -> NDArray[np.float64]:
        predictions = []
        for seed in seeds:
            predicted = Predictor(RunFolder(root / f"split-{variant}-{seed}").model).predict(data, split="test")
            predictions.append([float(p.score) for p in predicted])  # type: ignore[arg-type]
        return np.array(predictions)

    ours, theirs = scores(mine), scores(baseline)
    center = 3.0 if truth.min() >= 1 else 0.0
    signed = truth != center

    def gap(chosen: NDArray[np.int64]) -> tuple[float, float]:
        keep = chosen[signed[chosen]]
        accuracy = [((s[:, keep] >= center) == (truth[keep] > center)).mean() for s in (ours, theirs)]
        corr = [np.mean([np.corrcoef(row[chosen], truth[chosen])[0, 1] for row in s]) for s in (ours, theirs)]
        return 100 * float(accuracy[0] - accuracy[1]), float(corr[0] - corr[1])

    members = [np.flatnonzero(videos == video) for video in range(videos.max() + 1)]
    random = np.random.default_rng(0)
    drawn = [
        gap(np.concatenate([members[i] for i in random.integers(len(members), size=len(members))]))
        for _ in range(draws)
    ]
    mean = gap(np.arange(len(truth)))
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    return (
        f"{mine} - {baseline}, bootstrap over {len(members)} test videos: acc2_negpos {mean[0]:+.2f} "
        f"[{low[0]:+.2f}, {high[0]:+.2f}], corr {mean[1]:+.3f} [{low[1]:+.3f}, {high[1]:+.3f}]"
    )


def write(name: str, title: str, rows: Rows, *parts: str) -> None:
    """Write the single values as CSV and the tables as Markdown, and print the tables."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = f"# {title}\n\n" + "\n\n".join(parts) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def standard(data: str, seeds: int, workers: int, ablations: bool) -> None:
    """All methods on the split of the data."""
    name = Path(data).name
    root = Path("runs/noharm") / name
    best = best_single(data)
    methods = alone(best) | METHODS
    parts = {
        "held-out minus reference": {"balancing": {"name": "held_out", "reference": False}},
        f"{best} held-out": {"balancing": {"name": "held_out"}, "modalities": [best]},
    }
    methods |= parts if ablations else {}
    jobs = [(v, "split", data, seed, o) for v, o in methods.items() for seed in range(1, seeds + 1)]
    rows = [row | {"unit": row["seed"]} for row in run_all(jobs, root, workers)]
    videos = [by_video(root, data, range(1, seeds + 1), "held-out", baseline) for baseline in (best, "concat")]
    write(
        f"noharm-{name}",
        f"{name}, its own split, seeds 1 to {seeds}: test, mean ± deviation over seeds",
        rows,
        table(rows),
        "Paired by seed: mean [95 % interval], exact sign-flip test.",
        comparison(rows, ["held-out", *parts] if ablations else ["held-out"], [best, "concat", "paper"]),
        *videos,
    )


def partitions(
    data: str, count: int, seeds: int, workers: int, chosen: Sequence[str], *, tuned: bool, development: bool
) -> None:
    """All methods on random partitions by video."""
    drawn, draw = ("-development", DEVELOPMENT) if development else ("", SEED)
    kind = ("-finetuned" if tuned else "") + drawn
    name, out = Path(data).name + kind, Path(f"build/partitions{drawn}")
    folders = [str(partition(Path(data), out, number, draw)) for number in range(count)]
    best = best_single(data)
    available = fine_tuned() if tuned else alone(best) | METHODS
    methods = {name: available[name] for name in (best, *chosen)}
    rows = run_all(on_folders(folders, methods, seeds), Path(f"runs/noharm/partitions{kind}"), workers)
    write(
        f"noharm-partitions-{name}",
        f"{name}, {count} random partitions by video, seeds 1 to {seeds} each: test, over partitions",
        rows,
        table(rows),
        "Paired by partition: mean [95 % interval], exact sign-flip test.",
        comparison(rows, chosen, [name for name in (best, "concat") if name in methods]),
    )


def synthetic(names: Sequence[str], draws: int, workers: int, chosen: Sequence[str]) -> None:
    """Each synthetic case: two useful modalities and a further one of every kind."""
    rows = run_all(synthetic_jobs(names, draws, chosen), Path("runs/noharm/synthetic"), workers)
    of_noise = [row for row in rows if row["variant"] == "best subset" and row["unit"].startswith("noise-")]
    for case in names:
        if shares(case, names):
            rows += [{**row, "unit": row["unit"].replace("noise", case.replace(" ", "_"))} for row in of_noise]
    parts = [part for case in names for part in synthetic_parts(case, rows)]
    suffix = "-".join(name.replace(" ", "_") for name in names) if len(names) < len(CASES) else "all"
    write(f"noharm-synthetic-{suffix}", f"Synthetic cases, draws 1 to {draws}: test", rows, *parts)


def synthetic_jobs(names: Sequence[str], draws: int, chosen: Sequence[str]) -> list[Job]:
    """Every method on every draw of every case, with the baseline that knows the best subset."""
    jobs: list[Job] = []
    for case in names:
        slug = case.replace(" ", "_")
        for draw in range(1, draws + 1):
            unit = f"{slug}-{draw:02d}"
            folder = str(CASES[case].write(Path("build/synthetic") / unit, draw))
            methods = {name: METHODS[name] for name in chosen}
            if shares(case, names):
                pass  # its best subset is that of "noise", number for number: each modality has its own random stream
            elif set(CASES[case].best) != set(CASES[case].modalities):
                methods["best subset"] = {**CONCAT, "modalities": list(CASES[case].best)}
            elif "concat" not in methods:
                methods["concat"] = CONCAT
            jobs += [(variant, unit, folder, 1, options) for variant, options in methods.items()]
    return jobs


def synthetic_parts(case: str, rows: Rows) -> list[str]:
    """The section of a case: table, bounds, and comparisons."""
    from pase_msa.data.synthetic.ground_truth import bayes_score
    from pase_msa.data.synthetic.spec import SyntheticSpec

    slug = case.replace(" ", "_")
    mine = [row for row in rows if row["unit"].rsplit("-", 1)[0] == slug]
    variants = {row["variant"] for row in mine}
    best = "best subset" if "best subset" in variants else "concat"
    bayes, formed = [], []
    for unit in dict.fromkeys(row["unit"] for row in mine):
        data = open_table(Path("build/synthetic") / unit)
        spec = SyntheticSpec.from_dict(data.meta["spec"])
        bayes.append(100 * bayes_score(spec, data, data.rows("test"), frozenset(CASES[case].best))["acc2_negpos"])
        formed.append(reachable(data, CASES[case].best))
    gap = by_unit(mine, "held-out", "acc2_negpos") - by_unit(mine, best, "acc2_negpos")
    # class means do not show a product of two modalities, so that the fitted form is no bound there
    fitted = "" if CASES[case].synergy else f"; its form, fitted to the training utterances: {np.mean(formed):.1f}"
    return [
        f"## {case}",
        table(mine),
        f"Bayes rule on the best subset: {np.mean(bayes):.1f}{fitted}. Held-out minus {best}: mean {gap.mean():+.2f}, "
        f"worst of {len(gap)} draws {gap.min():+.2f}.",
        comparison(mine, ["held-out"], [name for name in ("best subset", "concat", "paper") if name in variants]),
    ]


def reachable(data: FeatureTable, names: Sequence[str]) -> float:
    """Accuracy, in percent, that the form of the Bayes rule reaches when it is fitted to the training utterances.

    That is linear discriminant analysis on means over time: class means and their common covariance are estimated.
    """
    train, test = data.rows("train"), data.rows("test")
    rows = np.concatenate([train, test])
    columns = {name: data.sequences(name) for name in names}
    means = np.concatenate([pool(c, rows, len(train))[0][:, : c.dim] for c in columns.values()], axis=1)
    labels = np.array(data.labels(next(iter(data.schema.labels))), dtype=float)
    values, classes = np.unique(labels[train], return_inverse=True)
    rule = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(means[: len(train)], classes)
    score, truth = rule.predict_proba(means[len(train) :]) @ values, labels[test]
    return 100 * float(((score >= 0) == (truth > 0))[truth != 0].mean())


def shares(case: str, names: Sequence[str]) -> bool:
    """Whether "noise" is among the names and the case has the same best subset as it."""
    like = CASES["noise"]
    same = CASES[case].best == like.best and CASES[case].clumping == like.clumping
    return "noise" in names and case != "noise" and same


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("suite", choices=("standard", "partitions", "synthetic"))
    parser.add_argument("--data", default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=10, help="partitions")
    parser.add_argument("--draws", type=int, default=20, help="of each synthetic case")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--methods", nargs="*", choices=tuple(METHODS), default=list(METHODS), help="not of `standard`")
    parser.add_argument("--fine-tuned", action="store_true", help="of `partitions`: text as in finetuned.yaml")
    parser.add_argument("--development", action="store_true", help="of `partitions`: others, for choices")
    parser.add_argument("--ablations", action="store_true", help="of `standard`: the method without one part at a time")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.suite == "synthetic":
        synthetic(options.cases, options.draws, options.jobs, options.methods)
    elif options.data is None:
        parser.error("name a data folder with --data")
    elif options.suite == "standard":
        standard(options.data, options.seeds, options.jobs, options.ablations)
    else:
        tuned, development = options.fine_tuned, options.development
        sizes = options.count, options.seeds, options.jobs
        partitions(options.data, *sizes, options.methods, tuned=tuned, development=development)


if __name__ == "__main__":
    main()
