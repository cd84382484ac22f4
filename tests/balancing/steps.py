"""Training steps with a balancing method, without a trainer; whole runs in memory, and runs that are cut short."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback

from pase_msa.balancing.base import Preparation
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.module import SentimentModule
from pase_msa.training.run import build_balancing, prepare, train
from tests.toys import parameters_of, toy_batch


def config_of(method, model="concat", start="always", **options):
    training = {"epochs": 2, "batch_size": 24, "accelerator": "cpu", "optimizer": "sgd", "learning_rate": 0.01}
    modalities = options.pop("modalities", None)
    return RunConfig(
        model={"name": model, "width": 6},
        modalities=modalities,
        encoders={"default": {"hidden": 6}},
        balancing={"name": method, **options},
        phases=PhaseConfig(start=start),
        training=TrainingConfig(**training),
    )


class LastParameters(Callback):
    """Those after the last epoch, before the best epoch's take their place."""

    def on_train_end(self, trainer, pl_module):
        self.parameters = parameters_of(pl_module.model)


def fitted(table, *args, **options):
    config, last = config_of(*args, **options), LastParameters()
    prepared = prepare(config, table)
    fit(config, prepared, None, progress=False, extra=[last])
    return prepared, last.parameters


def method_for(model, name, **options):
    """A method that was prepared for a model."""
    torch.manual_seed(7)
    method = build_balancing({"name": name, **options})
    method.prepare(Preparation(model.task, model, None, None, None))
    return method


def module_of(model, method):
    return SentimentModule(model, TrainingConfig(accelerator="cpu"), method)


def trainer_of(optimizer, world_size=1):
    """What the methods read of a trainer."""
    strategy = SimpleNamespace(reduce=lambda value, reduce_op: value)
    return SimpleNamespace(
        strategy=strategy, world_size=world_size, current_epoch=0, global_step=0, optimizers=[optimizer]
    )


def balanced_steps(model, method, batches, *, epochs=1, optimizer=torch.optim.SGD, rate=0.05, valid=(), after=None):
    """Steps as a run takes them, in one mode and without clipping; `after(epoch)` is called after each epoch."""
    module = module_of(model.train(), method)
    steps = optimizer(module.parameters(), rate)
    trainer = trainer_of(steps)
    method.on_fit_start(trainer, module)
    for epoch in range(epochs):
        trainer.current_epoch = epoch
        method.on_train_epoch_start(trainer, module)
        for batch in batches:
            shown = method.mask_modalities(batch, 0.0)
            outputs = model(shown)
            losses = method.reweight(model.losses(outputs, shown), outputs, shown, module)
            steps.zero_grad()
            method.backward(losses, module)
            method.on_before_optimizer_step(trainer, module, steps)
            steps.step()
            trainer.global_step += 1
        for index, batch in enumerate(valid):
            with torch.no_grad():
                method.on_validation_batch_end(trainer, module, None, batch, index)
        method.on_train_epoch_end(trainer, module)
        if after is not None:
            after(epoch)
    return module


def cut_and_whole(table, tmp_path, monkeypatch, method, **options):
    """The weights at the end of a run, and at the end of one that died in its last epoch and was given again."""
    training = TrainingConfig(epochs=2, batch_size=24, accelerator="cpu", learning_rate=0.01)

    def config(out):
        out = None if out is None else str(out)
        return dataclasses.replace(config_of(method, **options), out=out, training=training)

    whole = train(config(tmp_path / "whole"), progress=False, table=table)
    kind = type(prepare(config(None), table).balancing)

    def die(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("cut short")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "on_train_epoch_start", die)
        with pytest.raises(RuntimeError, match="cut short"):
            train(config(tmp_path / "cut"), progress=False, table=table)
    cut = train(config(tmp_path / "cut"), progress=False, table=table)
    return tuple(torch.load(run.last, weights_only=False)["state_dict"] for run in (cut, whole))


def planted_batch(strengths, n=48, *, seed=0):
    """A batch whose modalities show the class by so much, in their first entries, beside noise of size one."""
    batch = toy_batch("classification", tuple(strengths), n, seed=seed, steps=1, missing=False)
    batch.lengths = {name: torch.ones_like(length) for name, length in batch.lengths.items()}
    for name, strength in strengths.items():
        shown = torch.nn.functional.one_hot(batch.labels.long(), 3).float() - 1 / 3
        batch.features[name][:, 0, :3] += strength * shown
    return batch


@torch.no_grad()
def right_alone(model, name, train, new):
    """How often the nearest class mean of one modality's training vectors is right for new utterances."""
    model.eval()
    known, asked = (model.encode(batch)[0][name] for batch in (train, new))
    means = torch.stack([known[train.labels == k].mean(0) for k in range(3)])
    return float((torch.cdist(asked, means).argmin(1) == new.labels).float().mean())
