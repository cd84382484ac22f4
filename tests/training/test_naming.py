"""The folder of a run without `--out`: the same command finds its own run again, and no other one."""

import dataclasses
from pathlib import Path

import pytest

from pase_msa.balancing import held_out
from pase_msa.cli.main import main
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.errors import PaSEError
from pase_msa.models import pase
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.naming import run_name
from pase_msa.training.run import train
from tests.toys import tiny_spec

OTHER = {
    "label": "sentiment",
    "kind": "classification",
    "num_classes": 3,
    "modalities": ["text"],
    "encoders": {"default": {"hidden": 8}},
    "model": {"name": "pase", "width": 8},
    "balancing": {"name": "sgm"},
    "phases": PhaseConfig(patience=3),
    "training": TrainingConfig(epochs=3),
    "convention": "mult",
}


def test_a_run_of_the_defaults_is_named_by_data_model_and_seed():
    assert run_name(RunConfig(), "mosi") == "mosi-pase-seed1"
    assert run_name(RunConfig(model={"name": "concat"}, seed=7), "mosi") == "mosi-concat-seed7"


def test_data_out_and_seed_are_not_part_of_the_suffix():
    assert run_name(RunConfig(data="somewhere", out="elsewhere"), "mosi") == "mosi-pase-seed1"
    first, second = (RunConfig(seed=seed, convention="mult") for seed in (1, 2))
    assert run_name(first, "mosi")[-6:] == run_name(second, "mosi")[-6:]


@pytest.mark.parametrize("option", OTHER)
def test_every_other_option_changes_the_name(option):
    changed = {option: OTHER[option]}
    name = run_name(RunConfig(**changed), "mosi")
    assert name.startswith("mosi-pase-seed1-")
    assert len(name) == len("mosi-pase-seed1-") + 6
    assert run_name(RunConfig(**changed), "mosi") == name


def test_no_two_of_these_configurations_share_a_name():
    changes = [{}, *({name: value} for name, value in OTHER.items()), OTHER]
    assert len({run_name(RunConfig(**change), "mosi") for change in changes}) == len(changes)


def test_a_default_that_is_written_out_changes_nothing():
    plain = run_name(RunConfig(), "mosi")
    written = RunConfig(model={**vars(pase.Config())}, balancing={**vars(held_out.Config())})
    assert run_name(written, "mosi") == plain
    one, two = ({"name": "sgm"}, {"name": "sgm", "utility": "alignment"})
    assert run_name(RunConfig(balancing=one), "mosi") == run_name(RunConfig(balancing=two), "mosi") != plain


def test_the_suffix_stays_what_it_is_in_later_versions():
    """A run that was cut short under an older version is found again."""
    assert run_name(RunConfig(training=TrainingConfig(epochs=3)), "mosi") == "mosi-pase-seed1-5de11c"


@pytest.mark.parametrize("name", ["two words", "a/b", "package.module:attribute"])
def test_a_name_is_one_folder(name):
    made = run_name(RunConfig(), name)
    assert Path(made).name == made
    assert ":" not in made


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The tiny table on disk, and an empty folder to work in."""
    synthetic_table(tiny_spec(), path=tmp_path / "data")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return str(tmp_path / "data")


def test_commands_with_other_options_train_one_after_the_other(data, capsys):
    common = ["train", "--data", data, "--training.epochs", "1", "--training.accelerator", "cpu", "--progress", "false"]
    series = [[], ["--seed", "2"], ["--model.width", "8"], ["--balancing", "sgm"], ["--modalities", "text,audio"]]
    for words in series:
        assert main([*common, *words]) == 0, capsys.readouterr().err
    runs = sorted(Path("runs").iterdir())
    assert len(runs) == len(series)
    assert all((run / "results.json").is_file() for run in runs)
    assert main([*common, "--model.width", "8"]) == 2
    assert "finished run already" in capsys.readouterr().err


def test_the_same_command_resumes_its_run(data):
    config = RunConfig(data=data, training=TrainingConfig(epochs=2, threads=1, accelerator="cpu"))
    folder = train(config, progress=False)
    folder.results.unlink()
    assert train(config, progress=False).path == folder.path
    with pytest.raises(PaSEError, match="finished run already"):
        train(config, progress=False)


def test_other_data_of_the_same_name_get_a_folder_of_their_own(data):
    config = RunConfig(data=data, training=TrainingConfig(epochs=1, threads=1, accelerator="cpu"))
    first = train(config, progress=False).path
    other = synthetic_table(tiny_spec(seed=5), path=Path(data).parent / "other")
    moved = dataclasses.replace(config, data=str(Path(data).parent / "other"))
    second = train(moved, progress=False).path
    assert second.name == f"{first.name}-{other.fingerprint()[:6]}"
    with pytest.raises(PaSEError, match="finished run already"):
        train(moved, progress=False)
