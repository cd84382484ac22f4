"""What every balancing method on disk keeps to."""

import pytest
import torch

from pase_msa import plugins
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.phases import PhaseConfig
from pase_msa.training.run import build_modulation, fit, prepare
from tests.toys import parameters_of

METHODS = plugins.names("modulation")
each_method = pytest.mark.parametrize("name", METHODS)


def fitted(name, table, start="always"):
    config = RunConfig(
        model={"name": "pase", "width": 6},
        encoders={"default": {"hidden": 6}},
        modulation={"name": name},
        phases=PhaseConfig(start=start),
        training=TrainingConfig(epochs=2, batch_size=24, accelerator="cpu"),
    )
    prepared = prepare(config, table)
    before = parameters_of(prepared.model)
    fit(config, prepared, None, progress=False)
    return prepared, before


def test_there_are_methods():
    assert {"sgm", "none"} <= set(METHODS)


@each_method
def test_a_run_trains(name, score_table):
    prepared, before = fitted(name, score_table)
    after = parameters_of(prepared.model)
    assert after.isfinite().all()
    assert not torch.equal(before, after)
    assert all(isinstance(value, float) for value in prepared.modulation.log_values().values())


@each_method
def test_emotion_classes_train_too(name, class_table):
    assert parameters_of(fitted(name, class_table)[0].model).isfinite().all()


@each_method
def test_the_state_survives_a_checkpoint(name, score_table):
    method = fitted(name, score_table)[0].modulation
    other = build_modulation({"name": name})
    other.load_state_dict(method.state_dict())
    assert other.state_dict() == method.state_dict()
    assert other.log_values() == method.log_values()


@each_method
def test_the_first_phase_trains_as_if_there_were_no_method(name, score_table):
    waiting, _ = fitted(name, score_table, start="never")
    plain, _ = fitted("none", score_table, start="never")
    assert torch.equal(parameters_of(waiting.model), parameters_of(plain.model))
