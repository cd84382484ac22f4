"""Data Remixing, UMT, InfoReg and LFM as callbacks of whole runs."""

import dataclasses

import pytest
import torch

from pase_msa.errors import PaSEError
from pase_msa.training.config import TrainingConfig
from pase_msa.training.run import prepare, train
from tests.balancing.steps import config_of, fitted

OPTIONS = {"remix": {"warm_up": 1}, "umt": {"epochs": 1}, "inforeg": {}, "lfm": {"epochs": 2}}
each_method = pytest.mark.parametrize("method", OPTIONS)


@each_method
def test_a_model_without_vectors_trains_or_is_refused_in_a_sentence(method, score_table):
    if method == "lfm":
        assert fitted(score_table, method, "ef_lstm", modalities=["text", "vision"])[1].isfinite().all()
        return
    with pytest.raises(PaSEError, match="EarlyFusionLSTM has no vectors"):
        prepare(config_of(method, "ef_lstm"), score_table)


@each_method
def test_a_model_with_a_state_per_row_trains(method, score_table):
    after = fitted(score_table, method, "self_mm", **OPTIONS[method])[1]
    assert after.isfinite().all()
    assert not torch.equal(after, fitted(score_table, "none", "self_mm")[1])


@each_method
def test_one_modality_is_left_alone(method, score_table):
    after = fitted(score_table, method, modalities=["text"], **OPTIONS[method])[1]
    assert torch.equal(after, fitted(score_table, "none", modalities=["text"])[1])


@pytest.mark.parametrize("method", ["remix", "inforeg", "lfm"])
def test_a_run_that_is_cut_short_ends_where_the_other_one_does(method, score_table, tmp_path, monkeypatch):
    """The first of the runs dies at the beginning of its last epoch, and is given again."""
    training = TrainingConfig(epochs=3, batch_size=24, accelerator="cpu", learning_rate=0.01)

    def config(out):
        return dataclasses.replace(
            config_of(method, modalities=["text", "vision"], **OPTIONS[method]), out=str(out), training=training
        )

    whole = train(config(tmp_path / "whole"), progress=False, table=score_table)
    kind = type(prepare(config(None), score_table).balancing)
    begin = kind.on_train_epoch_start

    def die(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise RuntimeError("cut short")
        begin(self, trainer, pl_module)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "on_train_epoch_start", die)
        with pytest.raises(RuntimeError, match="cut short"):
            train(config(tmp_path / "cut"), progress=False, table=score_table)
    cut = train(config(tmp_path / "cut"), progress=False, table=score_table)
    one, two = (torch.load(run.last, weights_only=False)["state_dict"] for run in (whole, cut))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "remix", "whole": 2}, "balancing.whole is a number in"),
        ({"name": "umt", "epochs": 0}, "balancing.epochs is a whole number"),
        ({"name": "inforeg", "beta": -1}, "balancing.beta is a number 0 or more"),
        ({"name": "lfm", "first": 1.5}, "balancing.first is a number in"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, words, score_table):
    with pytest.raises(PaSEError, match=words):
        prepare(dataclasses.replace(config_of("none"), balancing=options), score_table)
