"""A trained run with one split of its data, for measurements beyond the final evaluation."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from pase_msa.batch import Batch, Outputs
from pase_msa.data.dataset import UtteranceDataset, evaluation_loader
from pase_msa.data.inputs import describe_data
from pase_msa.data.opening import evaluated_part, open_data
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.imputation import Imputation, imputation_switched
from pase_msa.evaluation.inference import predict_coalitions
from pase_msa.metrics import Convention, resolve_convention, task_metrics
from pase_msa.models.base import Model
from pase_msa.task import Task
from pase_msa.training.run_folder import RunFolder

Split = Literal["train", "valid", "test"]
Edit = Callable[[Batch, slice], Batch]
"""Changes a batch before it is predicted; the slice is the place of its utterances in the split."""
BATCH = 256


@dataclass(frozen=True)
class LoadedRun:
    """A model with the labelled utterances of a split.

    Attributes:
        method: its name in figures and tables; runs of one method differ by seed.
        seed: of the run.
        split: name of the split.
        convention: of the metrics.
        model: the trained one, in evaluation mode.
        table: all of the data.
        dataset: the N labelled utterances of the split.
        labels: of these, [N]: scores or class numbers.
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
        """The task of the model."""
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
        """The metrics of predictions [N, K] of the split, without those of single classes."""
        probabilities = logits.softmax(1)
        score = self.task.score(probabilities) if self.task.kind == "regression" else None
        metrics = task_metrics(self.task, probabilities, score, self.labels, self.convention)
        return {name: value for name, value in metrics.items() if not isinstance(value, dict)}

    def outputs(self, edit: Edit | None = None, *, network: bool = False) -> list[Outputs]:
        """The model's outputs on the split, one per batch.

        Args:
            edit: changes a batch before it is predicted.
            network: whether to take the network's outputs with all modalities instead of the prediction, which is a
                mixture over coalitions where the model has coalition weights.
        """
        device = next(self.model.parameters()).device
        everything = [frozenset(self.task.modalities)]
        outputs, start = [], 0
        with torch.inference_mode():
            for batch in evaluation_loader(self.dataset, BATCH):
                place = slice(start, start + len(batch))
                given = (batch if edit is None else edit(batch, place)).to(device)
                outputs.append(self.model.network_coalitions(given, everything)[0] if network else self.model(given))
                start += len(batch)
        return outputs

    def given(self, coalitions: Sequence[frozenset[str]], imputation: Imputation) -> Float[Tensor, "c n k"]:
        """Logits where all modalities but those of a coalition are lost, one row per coalition.

        They are kept, so that no coalition is predicted twice.

        Args:
            coalitions: sets of modality names.
            imputation: of the others: "on", "off", or "none" for a model without imputation.
        """
        missing = [coalition for coalition in coalitions if (imputation, coalition) not in self._given]
        if missing:
            with imputation_switched(self.model, imputation):
                logits = predict_coalitions(self.model, self.dataset, missing, batch_size=BATCH, lost=True)
            self._given.update(zip(((imputation, coalition) for coalition in missing), logits, strict=True))
        return torch.stack([self._given[imputation, coalition] for coalition in coalitions])

    def logits(self, edit: Edit | None = None) -> Float[Tensor, "n k"]:
        """The logits of the prediction, [N, K]; `edit` changes a batch before it is predicted."""
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
        split: what to measure on. Make no choice by "test".
        method: its name in figures and tables; that of the folder if left out.
        data: where the data are now, if they have moved.
        device: torch device.

    Errors:
        PaSEError: the run is not complete, its data have changed since, or the split has no labelled utterance.
    """
    folder = RunFolder.complete(run)
    config = folder.read_config()
    trained_on = folder.read_data()
    path = data if data is not None else trained_on["path"]
    if isinstance(path, FeatureTable):
        table = path
    else:
        rule, label = config.get("split", "given"), config.get("label")
        table = open_data(path, rule, label, evaluated_part(config, split))
    if describe_data(table, None)["fingerprint"] != trained_on["fingerprint"]:
        raise PaSEError(f"The data are not those that {folder.path} was trained on; name those.")
    model = Model.from_pretrained(folder.model, device=device)
    dataset = model.dataset(table, split, labels=True)
    name = folder.path.name if method is None else method
    convention = resolve_convention(model.task, config["convention"])
    return LoadedRun(name, int(config["seed"]), split, convention, model, table, dataset, dataset.targets(), folder)


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
    """A random stream that is a function of the seed and of its purpose."""
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode()) for part in purpose)])
