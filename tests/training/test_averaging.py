"""Averaged weights: what they are, that they are saved, and that a run that was cut short ends with the same."""

import pytest
import torch
from lightning import Callback

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.models.base import Model
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.module import SentimentModule
from pase_msa.training.run import prepare, train
from tests.toys import tiny_spec


class Steps(Callback):
    """The weights after every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, *_):
        self.seen.append([parameter.detach().clone() for parameter in module.model.parameters()])


def config(averaging, **more):
    training = TrainingConfig(
        epochs=2, batch_size=16, learning_rate=0.02, threads=1, accelerator="cpu", averaging=averaging
    )
    return RunConfig(model={"name": "pase", "width": 8}, encoders={"default": {"hidden": 8}}, training=training, **more)


@pytest.fixture(scope="module")
def table():
    return synthetic_table(tiny_spec())


def steps_of(averaging, table):
    """The weights after each step, and those that the model has in the end: of its best epoch."""
    prepared, steps = prepare(config(averaging), table), Steps()
    fit(config(averaging), prepared, None, progress=False, extra=[steps])
    return steps.seen, [parameter.detach() for parameter in prepared.model.parameters()]


def averaged(seen, length):
    mean = [torch.zeros_like(value) for value in seen[0]]
    for count, weights in enumerate(seen, 1):
        part = max(1 / count, 1 / length)
        mean = [(1 - part) * before + part * value for before, value in zip(mean, weights, strict=True)]
    return mean


@pytest.mark.parametrize("averaging", [1.0, 0.5])
def test_the_model_ends_with_the_average_of_its_steps(averaging, table):
    seen, kept = steps_of(averaging, table)
    assert len(seen) == 6
    # the best epoch is one of the two
    epochs = [averaged(seen[:count], averaging * 6) for count in (3, 6)]
    gaps = [max(float((a - b).abs().max()) for a, b in zip(kept, mean, strict=True)) for mean in epochs]
    assert min(gaps) < 1e-5


def test_training_goes_on_from_the_weights_themselves(table):
    plain, averaging = steps_of(0.0, table)[0], steps_of(1.0, table)[0]
    for one, other in zip(plain, averaging, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_run_that_was_cut_short_ends_with_the_same_average(table, tmp_path, monkeypatch):
    synthetic_table(tiny_spec(), path=tmp_path / "data")

    def run(name):
        return train(config(0.5, data=str(tmp_path / "data"), out=str(tmp_path / name)), progress=False).model

    whole = Model.from_pretrained(run("whole")).state_dict()
    step, calls = SentimentModule.training_step, []

    def fails(module, batch, number):
        calls.append(number)
        if len(calls) == 5:
            raise RuntimeError("cut short")
        return step(module, batch, number)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):  # noqa: PT012
        patch.setattr(SentimentModule, "training_step", fails)
        run("again")
    again = Model.from_pretrained(run("again")).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
