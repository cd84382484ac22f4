"""A run: its files, the split that it never reads, what it refuses, and that a killed run ends like a whole one."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pase_msa.data import FeatureTable
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.errors import PaSEError
from pase_msa.models.base import Model
from pase_msa.training.run import train
from pase_msa.training.run_folder import RunFolder
from tests.toys import tiny_spec
from tests.training.killed import config

ROOT = Path(__file__).parents[2]
# with this patience the run stops early
EARLY = {"patience": 1, "epochs": 12, "learning_rate": 0.1}
KILLS = {
    "in the first epoch": ("step:2", {}),
    "in the middle of an epoch": ("step:8", {}),
    "at the last step": ("step:12", {}),
    "in validation": ("validation:3", {}),
    "between two checkpoints": ("before-last-checkpoint:3", {}),
    "right after a checkpoint": ("after-last-checkpoint:2", {}),
    "after the last epoch": ("saving", {}),
    "after an early stop": ("saving", EARLY),
    "before the results": ("results", {}),
    "before the first step": ("starting:2", {}),
    "while the folder is begun": ("starting:1", {}),
    "with half a checkpoint moved between disks": ("half-a-checkpoint:3", {}),
    "while workers read ahead": ("step:8", {"workers": 1}),
}


# the moments that depend on the balancing method; the rest is the same code
FEWER = ("in the middle of an epoch", "in validation", "right after a checkpoint", "after an early stop")
CASES = [("sgm", moment) for moment in [*KILLS, "twice"]] + [("held_out", moment) for moment in FEWER]
each_balancing = pytest.mark.parametrize("method", ["sgm", "held_out"])


def weights(folder):
    return load_file(RunFolder(folder).model / "model.safetensors")


def assert_same_weights(first, second):
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def results(folder):
    content = json.loads(RunFolder(folder).results.read_text())
    return {key: value for key, value in content.items() if key != "seconds"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The tiny table on disk."""
    folder = tmp_path_factory.mktemp("data") / "table"
    synthetic_table(tiny_spec(), path=folder)
    return folder


@pytest.fixture(scope="module")
def complete(data, tmp_path_factory):
    """Runs that were not cut short, by method and options."""
    root = tmp_path_factory.mktemp("complete")
    folders = {}

    def make(method, **training):
        key = (method, *training.items())
        if key not in folders:
            options = config(data, root / f"run{len(folders)}", method, **training)
            folders[key] = train(options, progress=False).path
        return folders[key]

    return make


@pytest.fixture(scope="module")
def whole(complete):
    """A run that was not cut short, balanced as in the paper."""
    return complete("sgm")


@pytest.fixture(scope="module")
def killed(data, tmp_path_factory):
    """Folders of runs that were killed, by method and moment."""
    root = tmp_path_factory.mktemp("killed")
    points = {**KILLS, "twice": ("step:5", {})}
    jobs = {}
    for method, what in CASES:
        point, training = points[what]
        options = {"method": method, **training}
        jobs[method, what] = [str(root / f"run{len(jobs)}"), point, options]
    again = [[out, "validation:1", options] for (_, what), (out, _, options) in jobs.items() if what == "twice"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killed", str(data), json.dumps([*jobs.values(), *again])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    # the point with a checkpoint that moves between disks is not reached, because no checkpoint is moved
    assert [line for line in done.stdout.split() if "half" not in line] == []
    return {key: out for key, (out, *_) in jobs.items()}


@pytest.mark.parametrize(("method", "what"), CASES)
def test_a_killed_run_that_is_resumed_ends_bit_for_bit_like_a_whole_one(method, what, killed, complete, data):
    training = {} if what == "twice" else KILLS[what][1]
    expected = complete(method, **(EARLY if training is EARLY else {}))
    folder = killed[method, what]
    if not RunFolder(folder).results.is_file():
        train(config(data, folder, method, **training), progress=False)
    assert_same_weights(folder, expected)
    assert results(folder) == results(expected)
    history = RunFolder(folder).history()
    assert [row["epoch"] for row in history] == [row["epoch"] for row in RunFolder(expected).history()]
    for row, other in zip(history, RunFolder(expected).history(), strict=True):
        assert row == other


@each_balancing
def test_the_early_run_did_stop_early(method, complete):
    assert results(complete(method, **EARLY))["epochs"] < EARLY["epochs"]


@each_balancing
def test_balancing_was_on_in_the_runs_that_were_killed(method, complete):
    content = results(complete(method))
    assert content["phases"]["switched_at"] is not None
    assert any(entry["active"] for entry in content["balancing"][:-1])


def test_a_complete_run_has_every_file(whole):
    folder = RunFolder(whole)
    for file in (folder.config, folder.data, folder.environment, folder.last, folder.best, folder.results):
        assert file.is_file(), file
    assert {file.name for file in folder.model.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert list(folder.logs.glob("version_0/metrics.csv"))
    assert list(folder.logs.glob("version_0/events.out.tfevents*"))
    assert not list(folder.path.rglob("*.partial"))
    assert yaml.safe_load(folder.config.read_text())["seed"] == 1
    assert results(whole)["status"] == "complete"
    assert RunFolder.complete(whole).path == whole


def test_the_history_has_every_epoch_once(whole):
    history = RunFolder(whole).history()
    assert [row["epoch"] for row in history] == [0, 1, 2, 3]
    for row in history:
        assert {
            "train/loss",
            "train/class",
            "val/mae",
            "val/entropy",
            "psi/text",
            "phi/text",
            "phase",
            "gradient/text",
        } <= set(row)
        assert all(np.isfinite(list(row.values())))


def test_every_epoch_has_the_terms_of_the_coalition_utility(whole):
    """Without an alignment step in an epoch, every pair would have the best grade."""
    terms = {f"intra/{name}" for name in ("text", "audio", "vision")}
    terms |= {"inter/text+audio", "inter/text+vision", "inter/audio+vision"}
    assert [terms - set(row) for row in RunFolder(whole).history()] == [set()] * 4


def test_the_saved_model_is_that_of_the_best_epoch(whole):
    maes = [row["val/mae"] for row in RunFolder(whole).history()]
    assert results(whole)["best_epoch"] == int(np.argmin(maes))
    assert results(whole)["validation"]["mae"] == pytest.approx(min(maes), abs=1e-5)
    assert Model.from_pretrained(RunFolder(whole).model).ready


@each_balancing
def test_the_same_command_gives_the_same_weights(method, complete, data, tmp_path):
    again = train(config(data, tmp_path / "run", method), progress=False).path
    assert_same_weights(again, complete(method))
    assert results(again) == results(complete(method))


def test_another_seed_gives_other_weights(whole, data, tmp_path):
    other = dataclasses.replace(config(data, tmp_path / "run", "sgm"), seed=2)
    changed = weights(train(other, progress=False).path)
    assert not torch.equal(changed["head.0.weight"], weights(whole)["head.0.weight"])


def edited(table, change):
    """The table with every utterance changed, in memory."""
    rows = (change(table.utterance(row)) for row in range(len(table)))
    return FeatureTable.build(rows, table.schema, meta=dict(table.meta))


def short(out, method=None, **training):
    return config("unused", out, method, epochs=2, **training)


def poisoned(utterance):
    """A test utterance with features that are NaN, a wrong label, and more frames."""
    if utterance.split != "test":
        return utterance
    features = {
        name: None if value is None else np.full_like(np.tile(value, (9, 1)), np.nan)
        for name, value in utterance.features.items()
    }
    labels = {name: "no such class" if isinstance(v, str) else 1e9 for name, v in utterance.labels.items()}
    return dataclasses.replace(utterance, features=features, labels=labels, id=f"poison {utterance.id}")


@each_balancing
@pytest.mark.parametrize("table", ["score_table", "class_table"])
def test_the_test_split_is_never_read_in_training(table, method, request, tmp_path):
    clean = request.getfixturevalue(table)
    given = {"clean": clean, "poisoned": edited(clean, poisoned)}
    given["absent"] = clean.select(np.flatnonzero(clean.splits != "test"))
    for name, content in given.items():
        train(short(tmp_path / name, method), progress=False, table=content)
    assert_same_weights(tmp_path / "poisoned", tmp_path / "clean")
    assert_same_weights(tmp_path / "absent", tmp_path / "clean")
    assert results(tmp_path / "poisoned") == results(tmp_path / "clean")


def test_as_in_the_paper_validation_labels_select_the_epoch_and_do_nothing_else(score_table, tmp_path):
    """With one epoch there is nothing to select, so that the parameters do not depend on these labels."""

    def flip(utterance):
        if utterance.split != "valid":
            return utterance
        return dataclasses.replace(utterance, labels={"sentiment": -utterance.labels["sentiment"]})

    for name, content in {"as they are": score_table, "flipped": edited(score_table, flip)}.items():
        train(config("unused", tmp_path / name, "sgm", epochs=1), progress=False, table=content)
    one, two = weights(tmp_path / "as they are"), weights(tmp_path / "flipped")
    assert all(torch.equal(one[name], two[name]) for name in one if name != "temperature")


def with_split(utterance, old, new):
    return dataclasses.replace(utterance, split=new) if utterance.split == old else utterance


def one_video(utterance):
    return dataclasses.replace(utterance, video="the same")


def unlabelled(utterance):
    return dataclasses.replace(utterance, labels={}) if utterance.split == "valid" else utterance


def without_vision(utterance):
    return dataclasses.replace(utterance, features={**utterance.features, "vision": None})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_video, "'the same' is in both the train and the valid split"),
        (lambda u: with_split(u, "valid", "test"), "no validation split"),
        (lambda u: with_split(u, "train", "test"), "no training split"),
        (lambda u: with_split(u, "valid", "dev"), "'dev'"),
        (unlabelled, "No validation utterance has both a label 'sentiment' and a modality"),
        (without_vision, "No training utterance has the modality 'vision'"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused_and_nothing_is_written(change, words, score_table, tmp_path):
    with pytest.raises(PaSEError) as caught:
        train(short(tmp_path / "run"), progress=False, table=edited(score_table, change))
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modalities": ["text", "smell"]}, "'smell'"),
        ({"label": "mood"}, "'mood'"),
        ({"model": {"name": "pse"}}, "did you mean 'pase'?"),
        ({"model": {"name": "pase", "widht": 8}}, "did you mean 'width'?"),
        ({"model": {"name": "pase", "width": "wide"}}, "wrong type"),
        ({"balancing": {"name": "smg"}}, "did you mean 'sgm'?"),
        ({"encoders": {"smell": {"hidden": 4}}}, "'smell'"),
    ],
)
def test_options_that_do_not_fit_are_refused_and_nothing_is_written(options, words, score_table, tmp_path):
    with pytest.raises(PaSEError) as caught:
        train(dataclasses.replace(short(tmp_path / "run"), **options), progress=False, table=score_table)
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_trained_again(whole, data):
    with pytest.raises(PaSEError, match="finished run already"):
        train(config(data, whole, "sgm"), progress=False)


@pytest.fixture
def unfinished(score_table, tmp_path):
    """A run that lost its results."""
    folder = train(short(tmp_path / "run"), progress=False, table=score_table)
    folder.results.unlink()
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: dataclasses.replace(c, seed=2), "whose seed is 1, not 2"),
        (lambda c: dataclasses.replace(c, training=dataclasses.replace(c.training, epochs=3)), "whose training is"),
    ],
)
def test_an_unfinished_run_is_not_resumed_with_another_configuration(change, words, unfinished, score_table):
    with pytest.raises(PaSEError) as caught:
        train(change(short(unfinished.path)), progress=False, table=score_table)
    assert words in str(caught.value)


def test_an_unfinished_run_is_not_resumed_on_other_data(unfinished):
    with pytest.raises(PaSEError, match="unfinished run on other data"):
        train(short(unfinished.path), progress=False, table=synthetic_table(tiny_spec(seed=5)))


def test_a_folder_that_is_no_run_is_left_alone(score_table, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(PaSEError, match="not empty and holds no run"):
        train(short(tmp_path), progress=False, table=score_table)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unfinished_run_is_not_taken_for_a_complete_one(unfinished, tmp_path):
    with pytest.raises(PaSEError, match="unfinished run"):
        RunFolder.complete(unfinished.path)
    with pytest.raises(PaSEError, match="no run folder"):
        RunFolder.complete(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "options",
    [
        {"model": {"name": "concat"}},
        {"modalities": ["audio"]},
        {"balancing": {"name": "sgm", "utility": "prediction"}},
        {"balancing": {"name": "none"}},
        {"kind": "classification"},
        {"num_classes": 3},
        {"convention": "mult"},
    ],
    ids=str,
)
def test_variants_train(options, score_table, tmp_path):
    options = dict(options)
    if options.get("model", {}).get("name") != "concat":
        options["model"] = {"name": "pase", "width": 8}
    folder = train(dataclasses.replace(short(tmp_path / "run"), **options), progress=False, table=score_table)
    assert results(folder.path)["status"] == "complete"


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_optimisers_and_schedules_train(optimizer, schedule, score_table, tmp_path):
    folder = train(short(tmp_path / "run", optimizer=optimizer, schedule=schedule), progress=False, table=score_table)
    assert results(folder.path)["status"] == "complete"


@pytest.mark.parametrize("options", [{}, {"model": {"name": "concat"}, "balancing": {"name": "none"}}])
def test_training_that_diverges_is_one_sentence(options, data, tmp_path):
    run = config(data, tmp_path / "run", learning_rate=1e30, schedule="constant", warmup=0.0)
    with pytest.raises(PaSEError, match=r"diverged in epoch 0.*lower training\.learning_rate"):
        train(dataclasses.replace(run, **options), progress=False)
