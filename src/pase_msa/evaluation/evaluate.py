"""The final evaluation: the test split, once."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from pase_msa.calibration import confidence, correct, expected_calibration_error, reliability, risk_coverage
from pase_msa.data.inputs import describe_data
from pase_msa.data.opening import open_data
from pase_msa.data.synthetic.ground_truth import true_contributions
from pase_msa.data.synthetic.spec import SyntheticSpec
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.inference import Inference, attribute, predict_coalitions
from pase_msa.evaluation.predictions import write_utterances
from pase_msa.files import read_json, write_json
from pase_msa.metrics import Convention, headline, task_metrics
from pase_msa.models.base import Model
from pase_msa.objective import soft_cross_entropy
from pase_msa.report.run_page import write_report
from pase_msa.shapley import attribution, shapley_values
from pase_msa.task import Task
from pase_msa.training.environment import environment
from pase_msa.training.run_folder import RunFolder

_ALL_SUBSETS = 5  # beyond this many modalities: each alone, each left out, and all


def evaluate(
    run: str | Path,
    *,
    data: str | None = None,
    convention: Convention | None = None,
    batch_size: int = 256,
    report: bool = True,
) -> dict[str, Any]:
    """Evaluate a run on its test split: metrics, subsets of modalities, contributions, calibration.

    The result goes to `evaluation.json` and `report.html` in the run folder, what was said of each utterance to
    `predictions.csv`; a second call returns it from there and does not read the test split again.

    Args:
        run: a complete run folder.
        data: where the data are now, if they have moved; or other data to evaluate on, whose result is returned only.
        convention: of the metrics, for a result that is returned only; that of the run if left out.
        batch_size: utterances a pass.
        report: whether to draw `report.html`, which takes longer than the rest; a later call can.

    Errors:
        PaSEError: the run is not complete, the data have changed since training, or hold no labelled test split.
    """
    folder = RunFolder.complete(run)
    config = yaml.safe_load(folder.config.read_text())
    trained_on = read_json(folder.data)
    own = data is None and convention in (None, config["convention"])
    if own and folder.evaluation.is_file():
        known = dict(read_json(folder.evaluation))
        if report and not folder.report.is_file():
            write_report(known, folder.report, history=folder.history())
        return known
    path = data if data is not None else trained_on["path"]
    table = open_data(path)
    here = describe_data(table, path)
    same = here["fingerprint"] == trained_on["fingerprint"]
    if data is None and not same:
        raise PaSEError(
            f"The data in {path or 'the synthetic benchmark'} are not those that {folder.path} was trained on; name "
            "them with --data."
        )
    if same and folder.evaluation.is_file() and convention in (None, config["convention"]):
        return dict(read_json(folder.evaluation))
    model = Model.from_pretrained(folder.model)
    dataset = model.dataset(table, "test", labels=True)
    labels = dataset.targets()
    games, matrix = attribution(tuple(model.task.modalities))
    wanted = [game for game in subsets(model.task.modalities) if game not in games]
    logits = predict_coalitions(model, dataset, [*wanted, *games], batch_size=batch_size)
    by_game = dict(zip([*wanted, *games], logits, strict=True))
    found = attribute(model.task, logits[len(wanted) :], matrix, float(model.temperature))
    chosen: Convention = convention or config["convention"]
    trained = read_json(folder.results)
    result: dict[str, Any] = {
        "name": folder.path.name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": model.recipe["name"],
        "seed": config["seed"],
        "task": model.task.to_dict(),
        "data": here,
        "split": "test",
        "count": len(dataset),
        "convention": chosen,
        "metrics": task_metrics(model.task, found.probabilities, found.score, labels, chosen),
        "subsets": {
            "+".join(name for name in model.task.modalities if name in game): _metrics(
                model.task, by_game[game], labels, chosen
            )
            for game in subsets(model.task.modalities)
        },
        "contributions": contributions(model, found, by_game, labels, chosen, table),
        "calibration": calibration(model.task, found, labels, float(model.temperature)),
        "phases": trained["phases"],
        **({"modality_report": trained["modality_report"]} if "modality_report" in trained else {}),
        "environment": environment(),
    }
    if same and chosen == config["convention"]:
        # before the evaluation, which says that all of it is there
        write_utterances(folder.predictions, model.task, table, dataset.rows, labels, found)
        write_json(folder.evaluation, result)
        if report:
            write_report(result, folder.report, history=folder.history())
    return result


def subsets(modalities: tuple[str, ...]) -> list[frozenset[str]]:
    """Non-empty subsets, small ones first; beyond five modalities singles, leave-one-out and all."""
    count = len(modalities)
    masks = range(1, 2**count)
    found = (
        [frozenset(name for i, name in enumerate(modalities) if mask >> i & 1) for mask in masks]
        if (count <= _ALL_SUBSETS)
        else [
            *(frozenset([name]) for name in modalities),
            *(frozenset(modalities) - {name} for name in modalities),
            frozenset(modalities),
        ]
    )
    return sorted(found, key=len)


def _metrics(task: Task, logits: Tensor, labels: Tensor, convention: Convention) -> dict[str, Any]:
    probabilities = logits.softmax(1)
    score = task.score(probabilities) if task.kind == "regression" else None
    return task_metrics(task, probabilities, score, labels, convention)


def contributions(
    model: Model,
    found: Inference,
    by_game: Mapping[frozenset[str], Tensor],
    labels: Tensor,
    convention: Convention,
    table: FeatureTable,
) -> dict[str, dict[str, float]]:
    """What each modality contributed on the test split.

    Returns:
        By modality: "mean_absolute" contribution to the score (or to the predicted class's probability) and its
        "share"; where every coalition was played, the Shapley values of the gain over the prediction without any
        modality, in the headline metric ("metric") and in log-likelihood ("nats"); on the synthetic benchmark also
        those of the Bayes rule over the class prior, in nats ("ground_truth"). A modality that is excluded has exactly zero.
    """
    task = model.task
    absolute = {m: float(values.abs().mean()) for m, values in found.contributions.items()}
    total = sum(absolute.values()) or 1.0
    result = {m: {"share": value / total, "mean_absolute": value} for m, value in absolute.items()}
    if len(task.modalities) > _ALL_SUBSETS:
        return result
    name, mode = headline(task)
    sign = 1.0 if mode == "max" else -1.0
    membership = task.membership(labels)
    metric = {game: sign * _metrics(task, logits, labels, convention)[name] for game, logits in by_game.items()}
    fit = {game: -float(soft_cross_entropy(logits, membership).mean()) for game, logits in by_game.items()}
    games = {"metric": metric, "nats": fit}
    for key, values in games.items():
        shares = shapley_values(partial(_gain, values), task.modalities)
        for m, gain in shares.items():
            result[m][key] = gain
    if table.meta.get("synthetic") and "spec" in table.meta:
        spec = SyntheticSpec.from_dict(table.meta["spec"])
        for m, gain in true_contributions(spec, "test", table=table).items():
            if m in result:
                result[m]["ground_truth"] = gain
    return result


def _gain(values: Mapping[frozenset[str], float], game: frozenset[str]) -> float:
    return values[game] - values[frozenset()]


def calibration(task: Task, found: Inference, labels: Tensor, temperature: float) -> dict[str, Any]:
    """How far the stated confidence can be believed."""
    right = correct(task, found.logits, labels)
    plain = confidence(task, found.logits)
    curve = risk_coverage(found.confidence, right)
    return {
        "temperature": temperature,
        "ece": expected_calibration_error(found.confidence, right),
        "ece_uncalibrated": expected_calibration_error(plain, right),
        "reliability": reliability(found.confidence, right),
        "aurc": float(np.asarray(curve["aurc"])),
    }
