"""A trained run, ready to be measured on one split."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from pase_msa.batch import Batch, Outputs
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.data.inputs import describe_data
from pase_msa.data.opening import open_data
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.imputation import Imputation, imputation_switched
from pase_msa.evaluation.inference import predict_coalitions
from pase_msa.files import read_json
from pase_msa.metrics import Convention, task_metrics
from pase_msa.models.base import Model
from pase_msa.task import Task
from pase_msa.training.run_folder import RunFolder

Split = Literal["train", "valid", "test"]
Edit = Callable[[Batch, slice], Batch]
"""Changes a batch before it is predicted; the slice tells which utterances of the split it holds."""
BATCH = 256


@dataclass(frozen=True)
class LoadedRun:
    """A model with the labelled utterances of a split.

    Attributes:
        method: what figures call it; runs of one method differ by seed.
        seed: of the run.
        split: which split this is.
        convention: of the metrics.
        model: in evaluation mode.
        table: all of the data.
        dataset: the split's N labelled utterances.
        labels: theirs, [N]: scores or class numbers.
        folder: the run folder.
    """

    method: str
    seed: int
    split: str
    convention: Convention
    model: Model
    table: FeatureTable
    dataset: UtteranceDataset
    labels: Float[Tensor, " n"]
    folder: RunFolder
    _given: dict[tuple[Imputation, frozenset[str]], Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def task(self) -> Task:
        """The model's."""
        return self.model.task

    @property
    def stamp(self) -> dict[str, Any]:
        """The columns that begin every row of what is measured on this run."""
        return {"method": self.method, "seed": self.seed, "split": self.split}

    @property
    def videos(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Number of each utterance's video, [N]."""
        return self.dataset.videos[self.dataset.rows]

    def metrics(self, logits: Float[Tensor, "n k"]) -> dict[str, float]:
        """The task's metrics of some predictions of the split, as fractions; those of single classes are left out."""
        probabilities = logits.softmax(1)
        score = self.task.score(probabilities) if self.task.kind == "regression" else None
        found = task_metrics(self.task, probabilities, score, self.labels, self.convention)
        return {name: value for name, value in found.items() if not isinstance(value, dict)}

    def outputs(self, edit: Edit | None = None, *, network: bool = False) -> list[Outputs]:
        """What the model says of the split, a batch at a time, on the CPU.

        Args:
            edit: changes a batch beforehand.
            network: ask the network with all modalities, whatever coalitions are trusted.
        """
        device = next(self.model.parameters()).device
        everything = [frozenset(self.task.modalities)]
        found, start = [], 0
        with torch.inference_mode():
            for batch in evaluation_loader(self.dataset, BATCH):
                place = slice(start, start + len(batch))
                given = (batch if edit is None else edit(batch, place)).to(device)
                found.append(self.model.network_coalitions(given, everything)[0] if network else self.model(given))
                start += len(batch)
        return found

    def given(self, games: Sequence[frozenset[str]], imputation: Imputation) -> Float[Tensor, "c n k"]:
        """Logits where the model is given only the named modalities, one a coalition; no coalition is asked twice."""
        asked = [game for game in games if (imputation, game) not in self._given]
        if asked:
            with imputation_switched(self.model, imputation):
                said = predict_coalitions(self.model, self.dataset, asked, batch_size=BATCH)
            self._given.update(zip(((imputation, game) for game in asked), said, strict=True))
        return torch.stack([self._given[imputation, game] for game in games])

    def logits(self, edit: Edit | None = None) -> Float[Tensor, "n k"]:
        """The logits among `outputs`, [N, K]."""
        return torch.cat([output.logits.float().cpu() for output in self.outputs(edit)])


def load_run(
    run: str | Path,
    split: Split = "valid",
    *,
    method: str | None = None,
    data: str | Path | FeatureTable | None = None,
    device: str = "cpu",
) -> LoadedRun:
    """Open a complete run and its data.

    Args:
        run: run folder.
        split: what to measure on. Choose nothing by "test".
        method: what figures call it; the folder's name if left out.
        data: where the data are now, if they have moved.
        device: torch device.

    Errors:
        PaSEError: the run is not complete, its data have changed since, or the split has no labelled utterance.
    """
    folder = RunFolder.complete(run)
    config = yaml.safe_load(folder.config.read_text())
    trained_on = read_json(folder.data)
    path = data if data is not None else trained_on["path"]
    table = path if isinstance(path, FeatureTable) else open_data(path)
    if describe_data(table, None)["fingerprint"] != trained_on["fingerprint"]:
        raise PaSEError(f"The data are not those that {folder.path} was trained on; name those.")
    model = Model.from_pretrained(folder.model, device=device)
    dataset = model.dataset(table, split, labels=True)
    name = folder.path.name if method is None else method
    return LoadedRun(
        name, int(config["seed"]), split, config["convention"], model, table, dataset, dataset.targets(), folder
    )


def score_table(runs: Sequence[LoadedRun]) -> pd.DataFrame:
    """Metrics of every run on its split: columns method, seed, split, modalities, metric, value.

    `modalities` are those that the run was trained with, joined by "+".
    """
    rows = [
        {**run.stamp, "modalities": "+".join(run.task.modalities), "metric": metric, "value": value}
        for run in runs
        for metric, value in run.metrics(run.logits()).items()
    ]
    return pd.DataFrame(rows)


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A random stream that depends on the seed and what it is for, and on nothing else."""
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode()) for part in purpose)])
