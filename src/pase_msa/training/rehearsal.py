"""A training run before the run: what a balancing method asks for when it wants to know how modalities learn alone."""

from __future__ import annotations

import dataclasses

import torch
from lightning import Callback, LightningModule, Trainer

from pase_msa.modulation.base import Measured
from pase_msa.objective import soft_cross_entropy
from pase_msa.training.config import RunConfig
from pase_msa.training.data_module import evaluation_loader
from pase_msa.training.inputs import UtteranceDataset
from pase_msa.training.module import SentimentModule


def alone(config: RunConfig, modalities: list[str], epochs: int) -> RunConfig:
    """The same run with some of the modalities, without balancing, for some epochs that no early stop cuts short."""
    epochs = min(epochs, config.training.epochs)
    return dataclasses.replace(
        config,
        out=None,
        modalities=modalities,
        equilibrium=None,
        modulation={"name": "none"},
        training=dataclasses.replace(config.training, epochs=epochs, patience=epochs),
    )


class Ends(Callback):
    """Measures the losses before the first epoch and after the last.

    Attributes:
        found: both, once training is over.
    """

    def __init__(self, train: UtteranceDataset, valid: UtteranceDataset, batch_size: int) -> None:
        super().__init__()
        self.datasets, self.batch_size = (train, valid), batch_size
        self.found: list[Measured] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before."""
        self._measure(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After."""
        self._measure(pl_module)

    @torch.no_grad()
    def _measure(self, module: LightningModule) -> None:
        assert isinstance(module, SentimentModule)
        model, training, means = module.model, module.model.training, []
        model.eval()
        for dataset in self.datasets:
            total = 0.0
            for batch in evaluation_loader(dataset, self.batch_size):
                moved = batch.to(module.device)
                assert moved.labels is not None
                said = model.forward(moved).logits.float()
                total += float(soft_cross_entropy(said, model.task.membership(moved.labels)).sum())
            means.append(total / len(dataset))
        model.train(training)
        self.found.append(Measured(*means))
