"""The card of a run's model: what training and evaluation have written, with intervals and groups of the test split."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.cards.card import model_card
from pase_msa.data.guard import refuse_several_targets
from pase_msa.data.opening import evaluated_part, open_data
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.predictions import read_utterances
from pase_msa.evaluation.subgroups import measure_members, subgroup_metrics
from pase_msa.files import read_json
from pase_msa.models.saving import CONFIG, read_description, read_task
from pase_msa.training.results import run_facts
from pase_msa.training.run_folder import RunFolder

#: columns of data that divide people, by the names that tables give them
PEOPLE = (
    "speaker", "sex", "gender", "age", "age_group", "language", "first_language", "accent", "dialect", "country",
    "nationality", "ethnicity", "race", "disability",
)  # fmt: skip
_log = logging.getLogger(__name__)


def run_card(run: str | Path, *, data: str | FeatureTable | None = None) -> str:
    """The card of a run, or of a folder with a saved model alone.

    Args:
        run: run folder of a complete run, or a folder that `save_pretrained` wrote.
        data: where the data are now, if they have moved; or the table. They are read for the groups only.

    Errors:
        PaSEError: there is neither, or a file of it is damaged.
    """
    path = Path(run)
    refuse_several_targets(path)
    if model_folder(path) == path:
        return model_card(read_description(path))
    folder = RunFolder.complete(path)
    facts = run_facts(folder, read_json(folder.results, keys=("validation",)))
    if folder.evaluation.is_file():
        evaluation = folder.read_evaluation()
        task = read_task(folder.model)
        predictions = read_utterances(folder.predictions, task)
        everyone = np.ones(len(predictions.ids), dtype=bool)
        whole = measure_members(task, predictions, everyone, evaluation["convention"])
        facts = dataclasses.replace(
            facts, evaluation=evaluation, intervals=whole["metrics"], groups=_groups(folder, data)
        )
    return model_card(read_description(folder.model), facts)


def model_folder(run: str | Path) -> Path:
    """The folder of the model of a run folder, or of a folder that is one itself."""
    path = Path(run)
    return path if (path / CONFIG).is_file() else RunFolder(path).model


def _groups(folder: RunFolder, data: str | FeatureTable | None) -> list[dict[str, Any]]:
    """The metrics of every column that divides people."""
    try:
        table = data if isinstance(data, FeatureTable) else _open(folder, data)
        known = [*(["speaker"] if table.speakers is not None else []), *table.schema.labels]
        target = read_task(folder.model).label
        columns = [name for name in known if name.lower() in PEOPLE and name != target]
        return [subgroup_metrics(folder.path, name, data=table) for name in columns]
    except PaSEError as error:
        _log.warning("the card has no groups: %s", error)
        return []


def _open(folder: RunFolder, data: str | None) -> FeatureTable:
    config = folder.read_config()
    path = data if data is not None else folder.read_data()["path"]
    return open_data(path, config.get("split", "given"), config.get("label"), evaluated_part(config, "test"))
