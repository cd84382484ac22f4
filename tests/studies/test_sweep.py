"""A sweep: the values that it draws, that it goes on after a kill, and that it reads no test split."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pase_msa.cli.main import main
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.errors import PaSEError
from pase_msa.studies import sweep as sweeping
from pase_msa.studies.sweep import importances, options_of, read_sweep, run_sweep
from tests.toys import tiny_spec

ROOT = Path(__file__).parents[2]
CONTENT = {
    "base": {
        "model": {"name": "concat", "width": 4},
        "training": {"epochs": 3, "threads": 1, "accelerator": "cpu", "batch_size": 16},
    },
    "space": {
        "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "model.width": {"low": 4, "high": 12, "step": 4},
        "training.schedule": {"choices": ["constant", "linear"]},
        "modalities": {"choices": [["text"], ["audio"], ["text", "audio"]]},
    },
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    synthetic_table(tiny_spec(), path=folder / "data")
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**CONTENT, "data": str(folder / "data")}, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def trials(root):
    """Eight trials, one after the other."""
    return run_sweep(read_sweep(root / "tiny.yaml"), root / "out", trials=8, jobs=1, progress=False)


def test_trials_lie_in_the_space_and_the_best_comes_first(trials):
    assert len(trials) == 8
    assert trials["training.learning_rate"].between(1e-4, 1e-1).all()
    assert set(trials["model.width"]) <= {4, 8, 12}
    assert set(trials["training.schedule"]) <= {"constant", "linear"}
    complete = trials[trials.state == "complete"]
    assert list(complete.value) == sorted(complete.value)
    assert complete.index[-1] == len(complete) - 1
    assert complete["training.learning_rate"].nunique() == len(complete), "every trial draws for itself"


def test_the_best_configuration_trains_to_the_value_of_its_trial(trials, root, tmp_path, capsys):
    best = yaml.safe_load((root / "out" / "best.yaml").read_text())
    assert best["training"]["learning_rate"] == trials["training.learning_rate"][0]
    assert main(["train", str(root / "out" / "best.yaml"), "--out", str(tmp_path / "run")]) == 0
    results = yaml.safe_load((tmp_path / "run" / "results.json").read_text())
    assert results["validation"]["mae"] == pytest.approx(trials.value[0], abs=1e-6)


def test_the_same_sweep_gives_the_same_trials_and_a_longer_one_goes_on(trials, root, tmp_path):
    sweep = read_sweep(root / "tiny.yaml")
    run_sweep(sweep, tmp_path, trials=5, jobs=1, progress=False)
    again = run_sweep(sweep, tmp_path, trials=8, jobs=1, progress=False)
    same = [name for name in trials.columns if name != "seconds"]
    pd.testing.assert_frame_equal(again[same], trials[same])
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 8


def test_a_killed_sweep_goes_on(root, tmp_path):
    words = [
        sys.executable,
        "-m",
        "pase_msa",
        "sweep",
        str(root / "tiny.yaml"),
        "--trials",
        "6",
        "--out",
        str(tmp_path),
    ]
    child = subprocess.Popen(
        [*words, "--jobs", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "trials.db").exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    time.sleep(np.random.default_rng().uniform(1, 3))
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    trials = run_sweep(read_sweep(root / "tiny.yaml"), tmp_path, trials=6, jobs=1, progress=False)
    assert trials.state.isin(["complete", "pruned"]).sum() == 6
    assert (trials.state == "fail").sum() <= 1


@pytest.mark.slow
def test_trials_that_are_worse_than_most_are_cut_short(root, tmp_path):
    content = {
        "base": {**CONTENT["base"], "training": {**CONTENT["base"]["training"], "epochs": 8, "patience": 8}},
        "space": {"training.learning_rate": {"low": 1e-6, "high": 1e-1, "log": True}},
        "data": str(root / "data"),
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    trials = run_sweep(read_sweep(tmp_path / "x.yaml"), tmp_path / "out", trials=14, jobs=1, progress=False)
    pruned = trials[trials.state == "pruned"]
    assert len(pruned)
    assert (pruned.epochs < 8).all()
    shares = importances(tmp_path / "out")
    complete = (trials.state == "complete").sum()
    assert shares == ({"training.learning_rate": 1.0} if complete >= 10 else {})


def test_the_test_split_is_never_read(trials, root, tmp_path, monkeypatch):
    table = synthetic_table(tiny_spec())

    def poisoned(row):
        utterance = table.utterance(row)
        if utterance.split != "test":
            return utterance
        return dataclasses.replace(utterance, labels={"sentiment": 1e9})

    other = type(table).build((poisoned(row) for row in range(len(table))), table.schema, meta=dict(table.meta))
    monkeypatch.setattr(sweeping, "open_data", lambda path, *_: other)
    sweeping._opened.cache_clear()
    try:
        again = run_sweep(read_sweep(root / "tiny.yaml"), tmp_path, trials=2, jobs=1, progress=False)
    finally:
        sweeping._opened.cache_clear()
    expected = trials[trials.trial < 2]
    assert list(again.value) == list(expected.value)


def test_a_trial_that_cannot_be_trained_is_reported_and_the_others_count(root, tmp_path):
    content = {**CONTENT, "data": str(root / "data"), "space": {"training.batch_size": {"choices": [0, 16]}}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    trials = run_sweep(read_sweep(tmp_path / "x.yaml"), tmp_path / "out", trials=8, jobs=1, progress=False)
    failed = trials[trials.state == "fail"]
    assert len(failed)
    assert failed.error.str.contains("batch_size").all()
    assert set(trials[trials.state == "complete"]["training.batch_size"]) == {16}


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_trial(root, tmp_path):
    content = {**CONTENT, "data": str(root / "data")}
    content["space"] = {"model.name": {"choices": ["concat", "tests.studies.example_cells:Deadly"]}}
    (tmp_path / "deadly.yaml").write_text(yaml.safe_dump(content))
    table = run_sweep(read_sweep(tmp_path / "deadly.yaml"), tmp_path / "out", trials=2, jobs=2, seed=4, progress=False)
    ended = table.groupby("model.name")["state"].agg(set).to_dict()
    assert ended == {"concat": {"complete"}, "tests.studies.example_cells:Deadly": {"fail"}}
    assert table["error"].dropna().str.contains("worker process was killed").all()


def test_another_sweep_in_the_folder_is_refused(trials, root):
    sweep = read_sweep(root / "tiny.yaml")
    with pytest.raises(PaSEError, match="other options"):
        run_sweep(dataclasses.replace(sweep, base={}), root / "out", jobs=1, progress=False)


def test_values_are_set_at_their_dotted_names(root):
    options = options_of(read_sweep(root / "tiny.yaml"), {"model.width": 8, "modalities": ["text"]})
    assert options["model"] == {"name": "concat", "width": 8}
    assert options["modalities"] == ["text"]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("{}", "wants `space`"),
        ("{a: 3}", "{low, high}"),
        ("{a: {low: 1}}", "{low, high}"),
        ("{a: {low: x, high: 2}}", "{low, high}"),
        ("{a: {choices: []}}", "{choices}"),
        ("{a: {low: 2, high: 1}}", "low is at most high"),
        ("{a: {low: 0, high: 1, log: true}}", "low > 0"),
        ("{training.monitor: {choices: [mae]}}", "incomparable"),
    ],
)
def test_a_file_that_holds_no_space_is_refused(space, words, tmp_path):
    (tmp_path / "x.yaml").write_text(f"space: {space}\n")
    with pytest.raises(PaSEError) as caught:
        read_sweep(tmp_path / "x.yaml")
    assert words in str(caught.value)


def test_the_command_prints_the_best_trials_and_what_to_do_next(trials, root, capsys):
    words = ["sweep", str(root / "tiny.yaml"), "--trials", "8", "--jobs", "1", "--out", str(root / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert f"next: pase train {root / 'out' / 'best.yaml'}" in printed
    assert printed.splitlines()[2].startswith(f"| {trials.trial[0]} |")
