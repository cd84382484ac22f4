"""The contract of every balancing method on disk."""

import io

import pytest
import torch
from lightning import Callback

from pase_msa import plugins
from pase_msa.balancing.base import mask_modalities
from pase_msa.models.base import Model
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare
from tests.toys import NAMES, parameters_of, toy_batch

METHODS = plugins.names("balancing")
each_method = pytest.mark.parametrize("name", METHODS)


def config_of(name, start="always"):
    return RunConfig(
        model={"name": "pase", "width": 6},
        encoders={"default": {"hidden": 6}},
        balancing={"name": name},
        phases=PhaseConfig(start=start),
        training=TrainingConfig(epochs=2, batch_size=24, accelerator="cpu"),
    )


def fitted(name, table):
    prepared = prepare(config_of(name), table)
    before = parameters_of(prepared.model)
    fit(config_of(name), prepared, None, progress=False)
    return prepared, before


def same(one, two):
    """Plain containers of numbers, words and tensors, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(value, two[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(two) and all(same(*pair) for pair in zip(one, two, strict=True))
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


class LastWeights(Callback):
    """Keeps the parameters after the last epoch, before the best epoch's take their place."""

    def on_train_end(self, trainer, pl_module):
        self.parameters = parameters_of(pl_module.model)


def test_there_are_methods():
    assert {"held_out", "sgm", "none", "ogm_ge", "agm", "gradient_blending"} <= set(METHODS)


@each_method
def test_a_run_trains(name, score_table):
    prepared, before = fitted(name, score_table)
    after = parameters_of(prepared.model)
    assert after.isfinite().all()
    assert not torch.equal(before, after)
    assert all(isinstance(value, float) for value in prepared.balancing.log_values().values())


@each_method
def test_emotion_classes_train_too(name, class_table):
    assert parameters_of(fitted(name, class_table)[0].model).isfinite().all()


@each_method
def test_the_state_survives_a_checkpoint(name, score_table):
    method = fitted(name, score_table)[0].balancing
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other = prepare(config_of(name), score_table).balancing
    other.load_state_dict(torch.load(file, weights_only=False))
    assert same(other.state_dict(), method.state_dict())
    assert other.log_values() == method.log_values()


@each_method
def test_auxiliary_heads_are_not_in_the_saved_model(name, score_table, tmp_path):
    prepared, before = fitted(name, score_table)
    folder = prepared.model.save_pretrained(tmp_path / "model")
    assert torch.equal(parameters_of(Model.from_pretrained(folder)), parameters_of(prepared.model))
    assert len(before) == sum(p.numel() for p in prepared.model.parameters())


@each_method
def test_the_first_phase_takes_the_steps_that_it_would_take_without_a_method(name, score_table, monkeypatch):
    """On the same batches: which modalities they show may depend on the method in either phase."""
    last = {}
    for method in (name, "none"):
        config, callback = config_of(method, start="never"), LastWeights()
        prepared = prepare(config, score_table)
        monkeypatch.setattr(prepared.balancing, "mask_modalities", mask_modalities)
        fit(config, prepared, None, progress=False, extra=[callback])
        last[method] = callback.parameters
    assert torch.equal(last[name], last["none"])


@each_method
def test_masking_adds_no_modality_and_leaves_one(name, score_table):
    method, batch = prepare(config_of(name), score_table).balancing, toy_batch(n=60)
    batch.present["text"][:9] = False
    for _ in range(5):
        masked = method.mask_modalities(batch, 0.5)
        assert all(not (masked.present[m] & ~batch.present[m]).any() for m in NAMES)
        assert torch.stack([masked.present[m] for m in NAMES]).any(0).all()
        assert all(masked.features[m] is batch.features[m] for m in NAMES)
