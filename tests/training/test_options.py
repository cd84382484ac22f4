"""Options: numbers out of their range and misspelt names are refused before any data are read."""

import dataclasses
import math
import typing

import numpy as np
import pytest

from pase_msa import plugins
from pase_msa.cli.main import main
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.trainer import check_hardware

CONFIGS = {
    "run": RunConfig,
    "training": TrainingConfig,
    "phases": PhaseConfig,
    "text": TextConfig,
    **{
        f"{kind}.{name}": plugins.load(kind, name).Config
        for kind in ("models", "balancing", "encoders")
        for name in plugins.names(kind)
        if hasattr(plugins.load(kind, name), "Config")
    },
}


def numbers(config):
    """Names of the numeric options, True for whole ones."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kinds = {hints[field.name], *typing.get_args(hints[field.name])}
        if str not in kinds and {int, float} & kinds:
            yield field.name, int in kinds


OPTIONS = [(name, option, whole) for name, config in CONFIGS.items() for option, whole in numbers(config)]
WRONG = [math.nan, math.inf, -math.inf, -1.0, -0.5]


@pytest.mark.parametrize(("name", "option", "whole"), OPTIONS, ids=[f"{name}.{option}" for name, option, _ in OPTIONS])
def test_every_number_refuses_what_is_no_number_or_negative(name, option, whole):
    # the tests check types too, so that a plug-in's whole number is not given a fraction here
    fractions = [] if whole and "." in name else WRONG
    for value in fractions + ([-1, 2**40] if whole else []):
        with pytest.raises(PaSEError, match=rf"{option} is a (whole )?number .*found.*give such a one\.$"):
            CONFIGS[name](**{option: value})


@pytest.mark.parametrize("value", [1.5, "3", True, math.nan])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(PaSEError, match=r"training\.epochs is a whole number"):
        TrainingConfig(epochs=value)


def test_numbers_of_numpy_are_numbers():
    assert TrainingConfig(epochs=np.int64(3), learning_rate=np.float32(1e-3)).epochs == 3


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_defaults_are_in_range(config):
    config()


@pytest.mark.parametrize(
    ("group", "option"),
    [
        ("training", "epochs"),
        ("training", "patience"),
        ("training", "batch_size"),
        ("training", "learning_rate"),
        ("training", "threads"),
        ("phases", "tolerance"),
        ("phases", "min_epochs"),
        ("text", "max_length"),
        ("text", "learning_rate"),
        ("models.pase", "temperature"),
        ("models.pase", "width"),
        ("models.pase", "regularization"),
        ("models.lmf", "rank"),
        ("encoders.sequence", "hidden"),
    ],
)
def test_zero_is_refused_where_nothing_would_be_left(group, option):
    with pytest.raises(PaSEError, match=option):
        CONFIGS[group](**{option: 0})


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"model": {"name": "pasee"}}, "'pase'"),
        ({"balancing": {"name": "held_ou"}}, "'held_out'"),
        ({"encoders": {"audio": {"encoder": "sequense"}}}, "'sequence'"),
        ({"convention": "mmas"}, "mmsa"),
        ({"kind": "regresion"}, "'regression'"),
    ],
)
def test_a_misspelt_name_gets_the_nearest_one(options, near):
    with pytest.raises(PaSEError, match=near):
        RunConfig(**options)


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"optimizer": "adamww"}, "'adamw'"),
        ({"schedule": "cosin"}, "'cosine'"),
        ({"precision": "bf16-mixd"}, "'bf16-mixed'"),
    ],
)
def test_a_misspelt_choice_of_training_gets_the_nearest_one(options, near):
    with pytest.raises(PaSEError, match=f"did you mean {near}"):
        TrainingConfig(**options)


@pytest.mark.parametrize(
    ("asked", "taken"), [("32", "32-true"), (32, "32-true"), ("bf16", "bf16-mixed"), ("bf16-mixed", "bf16-mixed")]
)
def test_precisions_have_short_names(asked, taken):
    assert TrainingConfig(precision=asked).precision == taken


@pytest.mark.parametrize("asked", ["16-mixed", "16", 16, "16-true", "bf16-true", "64-true", 64])
def test_a_precision_that_training_does_not_have_is_refused_with_the_one_to_take(asked):
    with pytest.raises(PaSEError, match=r"take (bf16-mixed|32-true)\.$"):
        TrainingConfig(precision=asked)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"devices": 9999}, "9999"),
        ({"devices": 0}, "1 or more"),
        ({"devices": -1}, "1 or more"),
        ({"devices": "all"}, "auto or a number"),
        ({"accelerator": "cpuu"}, "'cpu'"),
    ],
)
def test_hardware_that_is_not_there_is_refused(options, words):
    with pytest.raises(PaSEError, match=words):
        check_hardware(TrainingConfig(accelerator=options.pop("accelerator", "cpu"), **options))


def test_a_gpu_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(PaSEError, match="this machine has none"):
        check_hardware(TrainingConfig(accelerator="gpu"))


@pytest.mark.parametrize("names", [[], ["audio", "audio"]])
def test_modalities_are_named_once_each(names):
    with pytest.raises(PaSEError, match="each once"):
        RunConfig(modalities=names)


def test_tokens_and_fine_tuning_exclude_each_other_before_anything_is_loaded():
    with pytest.raises(PaSEError, match="frozen true"):
        TextConfig(pooling="tokens", frozen=False)


def trained_with(monkeypatch, words):
    """The configuration that `pase train` hands to training."""
    taken = []

    def stop(config, **more):
        taken.append(config)
        raise PaSEError("enough")

    monkeypatch.setattr("pase_msa.training.run.train", stop)
    assert main(["train", *words]) == 2
    return taken[0]


def test_fine_tuning_has_defaults_of_its_own(monkeypatch, tmp_path):
    plain = trained_with(monkeypatch, [])
    assert (plain.training.epochs, plain.training.precision, plain.text.learning_rate) == (60, "32-true", 5e-5)
    words = ["--text.frozen", "false", "--training.epochs", "2"]
    tuned = trained_with(monkeypatch, words)
    assert (tuned.training.epochs, tuned.training.schedule, tuned.training.precision) == (2, "linear", "auto")
    assert tuned.text.learning_rate == 3e-5
    file = tmp_path / "run.yaml"
    file.write_text("text: {frozen: false}\ntraining: {epochs: 2}\n")
    assert trained_with(monkeypatch, ["--config", str(file)]) == tuned
    assert RunConfig.from_options({"text": {"frozen": False}, "training": {"epochs": 2}}) == dataclasses.replace(
        tuned, model={"name": "pase"}, balancing={}
    )
