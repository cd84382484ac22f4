"""The final evaluation: numbers from the test split, which is read once per run. `pase_msa.report` makes the page."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pase_msa.calibration import confidence, correct, expected_calibration_error, reliability, risk_coverage
from pase_msa.cards.card import write_card
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.data.inputs import describe_data
from pase_msa.data.opening import evaluated_part, open_data
from pase_msa.data.synthetic.ground_truth import true_contributions
from pase_msa.data.synthetic.spec import SyntheticSpec
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.card import run_card
from pase_msa.evaluation.inference import Inference, attribute, predict_coalitions
from pase_msa.evaluation.predictions import write_utterances
from pase_msa.files import read_json, write_json
from pase_msa.metrics import Convention, headline, resolve_convention, task_metrics
from pase_msa.models.base import Model
from pase_msa.models.saving import read_task
from pase_msa.objective import soft_cross_entropy
from pase_msa.shapley import attribution, shapley_values
from pase_msa.task import Task
from pase_msa.training.environment import environment
from pase_msa.training.run_folder import RunFolder

_ALL_SUBSETS = 5  # with more modalities than this: each alone, each left out, and all


def evaluate(
    run: str | Path, *, data: str | None = None, convention: Convention | None = None, batch_size: int = 256
) -> dict[str, Any]:
    """Evaluate a run on its test split: metrics, subsets of modalities, contributions, calibration.

    The result goes to `evaluation.json` in the run folder, the prediction of each utterance to `predictions.csv`, and a
    new card to the folder of the model. A second call returns the result from there and does not read the test split
    again. `report_run` makes a page of it.

    Args:
        run: folder of a complete run.
        data: where the data are now, if they have moved; or other data to evaluate on. The result on other data is
            returned and not written.
        convention: of the metrics; that of the run if left out. The result in another one is returned and not written.
        batch_size: utterances per pass.

    Returns:
        Plain containers: "name", "date", "model", "seed", "task", "data", "split", "count" of utterances, "convention",
        "metrics", "subsets" (metrics by names joined by "+"), "contributions" (see `contributions`), "calibration" (see
        `calibration`), "phases" and "modality_report" of the training, "environment".

    Errors:
        PaSEError: the run is not complete, the data have changed since training, or hold no labelled test split.
    """
    folder = RunFolder.complete(run)
    config = folder.read_config()
    task = read_task(folder.model)
    chosen = resolve_convention(task, convention or config["convention"])
    is_own = chosen == resolve_convention(task, config["convention"])
    before = folder.read_evaluation() if folder.evaluation.is_file() else {}
    # an evaluation by an earlier version may be in another convention than its run asks for today
    evaluated = before.get("convention") == chosen
    if data is None and is_own and evaluated:
        return before
    table, described, same_data = _test_data(folder, data, config)
    is_own = is_own and same_data
    if is_own and evaluated:
        return before
    model = Model.from_pretrained(folder.model)
    dataset = model.dataset(table, "test", labels=True)
    by_subset, by_coalition, inference = _predict(model, dataset, batch_size)
    result = {
        "name": folder.path.name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": model.recipe["name"],
        "seed": config["seed"],
        "task": model.task.to_dict(),
        "data": described,
        "split": "test",
        "count": len(dataset),
        "convention": chosen,
        **_measure(model, inference, by_subset, by_coalition, dataset.targets(), chosen, table),
        **_of_training(folder),
        "environment": environment(),
    }
    if is_own:  # evaluation.json is written last: where it is there, the predictions are too
        write_utterances(folder.predictions, model.task, table, dataset.rows, dataset.targets(), inference)
        write_json(folder.evaluation, result)
        write_card(folder.model, run_card(folder.path, data=table))
    return result


def _test_data(
    folder: RunFolder, data: str | None, config: Mapping[str, Any]
) -> tuple[FeatureTable, dict[str, Any], bool]:
    """The table to evaluate on, its description, and whether the run was trained on the same data."""
    trained_on = folder.read_data()
    path = data if data is not None else trained_on["path"]
    table = open_data(path, config.get("split", "given"), config.get("label"), evaluated_part(config, "test"))
    described = describe_data(table, path)
    same = described["fingerprint"] == trained_on["fingerprint"]
    if data is None and not same:
        raise PaSEError(
            f"The data in {path or 'the synthetic benchmark'} are not those that {folder.path} was trained on; name "
            "them with --data."
        )
    return table, described, same


def _predict(
    model: Model, dataset: UtteranceDataset, batch_size: int
) -> tuple[dict[frozenset[str], Tensor], dict[frozenset[str], Tensor], Inference]:
    """Logits [N, K] where the others are lost, by subset; from every coalition of the attribution; the predictions."""
    attributed, matrix = attribution(tuple(model.task.modalities))
    logits = predict_coalitions(model, dataset, attributed, batch_size=batch_size)
    inference = attribute(model.task, logits, matrix, float(model.temperature))
    by_coalition = dict(zip(attributed, logits, strict=True))
    # without weights by what is there, one pass tells both
    known = {} if model.mixture.given else by_coalition
    further = [subset for subset in subsets(tuple(model.task.modalities)) if subset not in known]
    if further:
        rest = predict_coalitions(model, dataset, further, batch_size=batch_size, lost=True)
        known = known | dict(zip(further, rest, strict=True))
    return known, by_coalition, inference


def _measure(
    model: Model,
    inference: Inference,
    by_subset: Mapping[frozenset[str], Tensor],
    by_coalition: Mapping[frozenset[str], Tensor],
    labels: Tensor,
    convention: Convention,
    table: FeatureTable,
) -> dict[str, Any]:
    """The measured parts of an evaluation: metrics, those of subsets, contributions, calibration."""
    task = model.task
    return {
        "metrics": task_metrics(task, inference.probabilities, inference.score, labels, convention),
        "subsets": {
            "+".join(name for name in task.modalities if name in subset): _metrics(
                task, by_subset[subset], labels, convention
            )
            for subset in subsets(task.modalities)
        },
        "contributions": contributions(model, inference, by_coalition, labels, convention, table),
        "calibration": calibration(task, inference, labels, float(model.temperature)),
    }


def _of_training(folder: RunFolder) -> dict[str, Any]:
    """The parts that training has written: phases, and the report of the modalities if there is one."""
    trained = read_json(folder.results)
    return {name: trained[name] for name in ("phases", "modality_report") if name in trained}


def subsets(modalities: tuple[str, ...]) -> list[frozenset[str]]:
    """The subsets of modalities that an evaluation has metrics for, small ones first.

    All that are not empty; of more than five modalities each alone, each left out, and all of them.
    """
    count = len(modalities)
    if count <= _ALL_SUBSETS:
        masks = range(1, 2**count)
        chosen = [frozenset(name for i, name in enumerate(modalities) if mask >> i & 1) for mask in masks]
    else:
        everything = frozenset(modalities)
        chosen = [
            *(frozenset([name]) for name in modalities),
            *(everything - {name} for name in modalities),
            everything,
        ]
    return sorted(chosen, key=len)


def _metrics(task: Task, logits: Tensor, labels: Tensor, convention: Convention) -> dict[str, Any]:
    probabilities = logits.softmax(1)
    score = task.score(probabilities) if task.kind == "regression" else None
    return task_metrics(task, probabilities, score, labels, convention)


def contributions(
    model: Model,
    inference: Inference,
    by_coalition: Mapping[frozenset[str], Tensor],
    labels: Tensor,
    convention: Convention,
    table: FeatureTable,
) -> dict[str, dict[str, float]]:
    """What each modality contributed on the test split.

    Args:
        model: as it predicts.
        inference: its predictions of N utterances.
        by_coalition: logits [N, K] where the model is given only the modalities of a coalition.
        labels: true scores or class numbers, [N].
        convention: of the metrics.
        table: the data.

    Returns:
        By modality: "mean_absolute", the mean absolute contribution to the score (or to the probability of the
        predicted class), and "share", its part of the sum over modalities. With five modalities or fewer also the
        Shapley values of the gain over the prediction without any modality: in the headline metric ("metric") and in
        log-likelihood ("nats", per utterance). On the synthetic benchmark also "ground_truth": those of the Bayes rule
        over the class prior, in nats per utterance. A modality that is excluded has exactly zero.
    """
    task = model.task
    absolute = {m: float(values.abs().mean()) for m, values in inference.contributions.items()}
    total = sum(absolute.values()) or 1.0
    result = {m: {"share": value / total, "mean_absolute": value} for m, value in absolute.items()}
    if len(task.modalities) > _ALL_SUBSETS:
        return result
    for key, values in _utilities(task, by_coalition, labels, convention).items():
        for m, gain in shapley_values(partial(_gain, values), task.modalities).items():
            result[m][key] = gain
    if table.meta.get("synthetic") and "spec" in table.meta:
        spec = SyntheticSpec.from_dict(table.meta["spec"])
        for m, gain in true_contributions(spec, "test", table=table).items():
            if m in result:
                result[m]["ground_truth"] = gain
    return result


def _utilities(
    task: Task, by_coalition: Mapping[frozenset[str], Tensor], labels: Tensor, convention: Convention
) -> dict[str, dict[frozenset[str], float]]:
    """What each coalition is worth: by the headline metric, so that more is better, and by the log-likelihood."""
    name, mode = headline(task)
    sign = 1.0 if mode == "max" else -1.0
    membership = task.membership(labels)
    return {
        "metric": {c: sign * _metrics(task, logits, labels, convention)[name] for c, logits in by_coalition.items()},
        "nats": {c: -float(soft_cross_entropy(logits, membership).mean()) for c, logits in by_coalition.items()},
    }


def _gain(values: Mapping[frozenset[str], float], coalition: frozenset[str]) -> float:
    return values[coalition] - values[frozenset()]


def calibration(task: Task, inference: Inference, labels: Tensor, temperature: float) -> dict[str, Any]:
    """How well the stated confidence agrees with how often predictions are right.

    Returns:
        "temperature"; "ece", the expected calibration error, and "ece_uncalibrated", that without the temperature;
        "reliability", the bins of the calibration curve; "aurc", the area under the risk-coverage curve.
    """
    right = correct(task, inference.logits, labels)
    plain = confidence(task, inference.logits)
    curve = risk_coverage(inference.confidence, right)
    return {
        "temperature": temperature,
        "ece": expected_calibration_error(inference.confidence, right),
        "ece_uncalibrated": expected_calibration_error(plain, right),
        "reliability": reliability(inference.confidence, right),
        "aurc": float(np.asarray(curve["aurc"])),
    }
