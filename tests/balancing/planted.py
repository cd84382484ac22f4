"""Two modalities of which one is learned first, steps as the training module takes them, and whole runs in memory."""

from types import SimpleNamespace

import torch
from lightning import Callback

from pase_msa.balancing.base import BalancingMethod, Preparation
from pase_msa.batch import Batch
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare
from tests.toys import DIMS, parameters_of, toy_model

PAIR = ("text", "audio")


def dominated(n=90, *, seed=0, noise=0.7):
    """Text shows the class plainly and in large numbers; audio as well, but small and in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    code = torch.eye(3)[labels]
    features = {}
    for name, scale, spread in (("text", 3.0, 0.3), ("audio", 1.0, noise)):
        values = torch.zeros(n, DIMS[name])
        values[:, :3] = scale * code
        features[name] = (values + spread * torch.randn(values.shape, generator=generator)).unsqueeze(1)
    lengths = {name: torch.ones(n, dtype=torch.long) for name in PAIR}
    present = {name: torch.ones(n, dtype=torch.bool) for name in PAIR}
    return Batch(features, lengths, present, labels.float(), torch.arange(n), torch.arange(n))


def pair_model(name="concat", modalities=PAIR, **options):
    return toy_model(name, "classification", modalities, **options)


def prepared(method, model, train_unimodal=None):
    """The method, made ready for a model."""
    method.prepare(Preparation(model.task, model, None, None, train_unimodal))
    return method


def run(method, model, batches, epochs, *, rate=0.1):
    """Train with plain gradient steps and the hooks of a method; returns the method."""
    method = method or BalancingMethod()
    module = SimpleNamespace(
        model=model.train(),
        modalities=model.task.modalities,
        modality_parameters=model.modality_parameters,
        device=torch.device("cpu"),
    )
    heads = method.auxiliary_heads
    parameters = [*model.parameters(), *([] if heads is None else heads.parameters())]
    optimizer = torch.optim.SGD(parameters, rate)
    strategy = SimpleNamespace(reduce=lambda value, reduce_op: value)
    trainer = SimpleNamespace(strategy=strategy, world_size=1, optimizers=[optimizer], current_epoch=0)
    method.on_fit_start(trainer, module)
    for epoch in range(epochs):
        trainer.current_epoch = epoch
        method.on_train_epoch_start(trainer, module)
        for batch in batches:
            shown = method.mask_modalities(batch, 0.0)
            outputs = model(shown)
            losses = method.reweight(model.losses(outputs, shown), outputs, shown, module)
            optimizer.zero_grad()
            method.backward(losses, module)
            method.on_before_optimizer_step(trainer, module, optimizer)
            optimizer.step()
        method.on_train_epoch_end(trainer, module)
    return method


def accuracy(model, batch, coalition=PAIR):
    """Of what the network predicts from some of the modalities."""
    with torch.no_grad():
        found = model.eval().network_coalitions(batch, [frozenset(coalition)])[0].probabilities.argmax(1)
    return float((found == batch.labels).float().mean())


# whole runs


class LastParameters(Callback):
    """Those after the last epoch, before the best epoch's take their place."""

    def on_train_end(self, trainer, pl_module):
        self.parameters = parameters_of(pl_module.model)


def config_of(method, model="concat", modalities=None, **options):
    return RunConfig(
        model={"name": model, "width": 6},
        modalities=modalities,
        encoders={"default": {"hidden": 6}},
        balancing={"name": method, **options},
        phases=PhaseConfig(start="always"),
        training=TrainingConfig(epochs=2, batch_size=24, accelerator="cpu", optimizer="sgd", learning_rate=0.01),
    )


def fitted(table, *args, **options):
    """The prepared run after training, and the model's parameters after the last epoch."""
    config, last = config_of(*args, **options), LastParameters()
    prepared_run = prepare(config, table)
    fit(config, prepared_run, None, progress=False, extra=[last])
    return prepared_run, last.parameters
