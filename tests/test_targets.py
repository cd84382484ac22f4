"""Several targets in one run: what each learns, missing labels, saving, resuming, and what is refused."""

import csv
import json
import re

import numpy as np
import pytest

from pase_msa.cli.main import main
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import load_run
from pase_msa.models.base import Model
from pase_msa.targets.names import target_folders, target_names
from pase_msa.targets.prediction import TargetsPredictor
from pase_msa.targets.run import train_targets
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig

LABELS = "valence,mood"


def make_table(path=None, *, shuffled=False):
    """Valence is in the text and mood in the audio; every third utterance has no mood, every seventh no valence."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(180):
        valence, mood = rng.uniform(-1, 1), int(rng.integers(2))
        features = {
            "text": np.array([valence, 1.0, -valence], np.float32) + 0.1 * rng.normal(size=3).astype(np.float32),
            "audio": np.array([mood, -mood], np.float32) + 0.1 * rng.normal(size=2).astype(np.float32),
        }
        labels = {"valence": None if i % 7 == 0 else valence, "mood": None if i % 3 == 0 else ("calm", "glad")[mood]}
        split = "train" if i < 120 else "valid" if i < 150 else "test"
        if shuffled:
            labels = {"valence": -valence, "mood": "calm"}
        rows.append(Utterance(f"u{i}", f"v{i // 3}", split, labels, features, None))
    return FeatureTable.build(rows, Schema({"text": 3, "audio": 2}, {"valence": "real", "mood": "class"}), path=path)


def config(out, label=LABELS, **changes):
    training = {"epochs": 8, "batch_size": 16, "learning_rate": 0.01, "threads": 1, "accelerator": "cpu"}
    return RunConfig(
        out=str(out),
        label=label,
        model={"name": "pase", "width": 8},
        encoders={"default": {"hidden": 8}},
        phases=PhaseConfig(min_epochs=1, patience=1, tolerance=10.0),
        training=TrainingConfig(**(training | changes)),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("targets")
    make_table(root / "table")
    options = config(root / "run")
    options.data = str(root / "table")
    return train_targets(options, progress=False)


def of_run(folder):
    return json.loads(folder.results.read_text())


def predictions(folder, table):
    rows = TargetsPredictor(folder).predict(table, split="test")
    return [{label: (p.score, p.label, p.confidence) for label, p in row.items()} for row in rows]


def test_each_target_learns_its_own_signal_from_the_rows_that_have_its_label(run):
    validation = of_run(run)["validation"]
    assert validation["valence"]["corr"] > 0.9
    assert validation["mood"]["accuracy"] > 0.9


def test_each_target_has_a_modality_report_of_its_own(run):
    weight = {}
    for label, folder in target_folders(run.path).items():
        report = json.loads((folder / "results.json").read_text())["modality_report"]["modalities"]
        weight[label] = {name: row["prediction_weight"] for name, row in report.items()}
    assert weight["valence"]["text"] > weight["valence"]["audio"]
    assert weight["mood"]["audio"] > weight["mood"]["text"]


def test_encoders_are_shared_and_heads_are_not(run):
    valence, mood = (Model.from_pretrained(folder / "model") for folder in target_folders(run.path).values())
    shared = valence.encoders.state_dict()
    assert all(value.equal(mood.encoders.state_dict()[name]) for name, value in shared.items())
    assert valence.task.label == "valence"
    assert not valence.bank.prototypes[:, :2].equal(mood.bank.prototypes[:, :2])


def test_a_saved_target_predicts_what_was_measured_before_it_was_saved(run):
    for label, folder in target_folders(run.path).items():
        loaded = load_run(folder, "valid")
        again = loaded.metrics(loaded.logits())
        before = of_run(run)["validation"][label]
        assert again == pytest.approx({name: before[name] for name in again}, abs=1e-5)


def test_labels_in_the_data_change_no_prediction(run):
    assert predictions(run.path, make_table()) == predictions(run.path, make_table(shuffled=True))


def test_a_run_that_was_cut_short_ends_like_a_whole_one(run, tmp_path, monkeypatch):
    from pase_msa.targets import module

    original, calls = module.TargetsModule.training_step, iter(range(10**6))

    def step(self, batch, index):
        if next(calls) == 30:
            raise RuntimeError("cut")
        return original(self, batch, index)

    table = make_table()
    with monkeypatch.context() as patched:
        patched.setattr(module.TargetsModule, "training_step", step)
        with pytest.raises(RuntimeError, match="cut"):
            train_targets(config(tmp_path / "run"), progress=False, table=table)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    folder = train_targets(config(tmp_path / "run"), progress=False, table=table)
    assert of_run(folder)["validation"] == of_run(run)["validation"]
    assert predictions(folder.path, table) == predictions(run.path, table)


def test_the_commands_evaluate_and_predict_every_target(run, tmp_path, capsys):
    assert main(["evaluate", str(run.path), "--json"]) in (0, None)
    found = json.loads(capsys.readouterr().out)["targets"]
    assert found["valence"]["metrics"]["corr"] > 0.9
    assert found["mood"]["count"] == 20
    out = tmp_path / "p.csv"
    assert main(["predict", str(run.path), "--data", str(run.path.parent / "table"), "--out", str(out)]) in (0, None)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 180
    assert {"id", "valence", "mood", "valence_confidence", "mood_contribution_audio"} <= set(rows[0])


def test_a_place_that_takes_one_target_says_which_folder_to_give(run):
    with pytest.raises(PaSEError, match=r"several targets.*targets/"):
        Model.from_pretrained(run.path)


@pytest.mark.parametrize("command", ["report", "compare", "card", "export"])
def test_commands_that_take_one_target_say_which_folder_to_give(command, run, capsys):
    assert main([command, *[str(run.path)] * (1 + (command == "compare"))]) == 2
    assert re.search(r"several targets.*targets/", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("label", "what"), [("a,a", "given twice"), ("a,,b", "divided by commas"), ("a,", "divided by commas")]
)
def test_names_of_targets_that_are_none_are_refused(label, what):
    with pytest.raises(PaSEError, match=what):
        target_names(label)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"label": "valence,joy"}, "not 'joy'"),
        ({"label": "valence"}, "two labels or more"),
        ({"split": "auto"}, "pase convert --split auto"),
        ({"balancing": {"name": "sgm"}}, "held_out or none"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes, what, tmp_path):
    options = config(tmp_path / "run")
    for name, value in changes.items():
        setattr(options, name, value)
    with pytest.raises(PaSEError, match=what):
        train_targets(options, progress=False, table=make_table())
    assert not (tmp_path / "run").exists()
