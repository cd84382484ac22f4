"""Two modalities of which one is learned first."""

import torch

from pase_msa.balancing.base import BalancingMethod, Preparation
from pase_msa.batch import Batch
from tests.balancing.steps import balanced_steps
from tests.toys import DIMS, toy_model

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
    balanced_steps(model, method, batches, epochs=epochs, rate=rate)
    return method


def accuracy(model, batch, coalition=PAIR):
    """Of what the network predicts from some of the modalities."""
    with torch.no_grad():
        found = model.eval().network_coalitions(batch, [frozenset(coalition)])[0].probabilities.argmax(1)
    return float((found == batch.labels).float().mean())
