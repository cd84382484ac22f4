"""A study: the grid of a YAML file, one run per cell, a table, a ledger entry, and the command."""

import json
import os
import shutil
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
from pase_msa.report.ledger import append, ledger_entry, render_split
from pase_msa.studies.study import dataset_names, merge, read_study, run_study, study_cells
from pase_msa.training.run import train
from tests.toys import tiny_spec

ROOT = Path(__file__).parents[2]
BASE = {"model": {"width": 4}, "training": {"epochs": 2, "batch_size": 16, "threads": 1, "accelerator": "cpu"}}
VARIANTS = {
    "PaSE - PCL": {"model": {"calibration": False}},
    "text": {"model": {"name": "concat"}, "modalities": ["text"]},
    "ridge": {"model": {"name": "ridge"}},
    "smell": {"modalities": ["smell"]},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    synthetic_table(tiny_spec(), path=folder / "data")
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"base": BASE, "variants": VARIANTS, "seeds": 2}, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def table(root):
    """The study of two seeds, on the test split too."""
    return run_study(read_study(root / "tiny.yaml"), root / "out", data=[str(root / "data")], jobs=1, progress=False)


def test_the_grid_is_run_with_metrics_and_circumstances(table, root):
    assert list(zip(table.variant, table.seed, strict=True)) == [
        (variant, seed) for variant in ("PaSE - PCL", "text", "ridge") for seed in (1, 2)
    ]
    assert set(table.status) == {"done"}
    for column in ("test/mae", "valid/mae", "test/acc2_negpos", "parameters", "epochs", "seconds", "peak_memory_mb"):
        assert table[column].notna().all(), column
    trained = table[table.variant != "ridge"]
    assert (trained.epochs == 2).all()
    assert (trained.seconds_an_epoch > 0).all()
    for run, variant, seed in zip(trained.run, trained.variant, trained.seed, strict=True):
        folder = root / "out" / run
        options = yaml.safe_load((folder / "config.yaml").read_text())
        assert options["seed"] == seed
        assert options["model"]["name" if variant == "text" else "calibration"] in ("concat", False)
    assert table.loc[4, "test/mae"] == table.loc[5, "test/mae"], "the ridge has no seed"


def test_a_finished_run_keeps_its_model_and_no_checkpoints(table, root):
    for run in table.run.dropna():
        assert (root / "out" / run / "model" / "model.safetensors").is_file()
        assert not (root / "out" / run / "checkpoints").exists()


def test_a_finished_study_trains_nothing_and_gives_the_same_table(table, root, monkeypatch):
    monkeypatch.setattr("pase_msa.studies.training_cell.train", lambda *_, **__: pytest.fail("trained again"))
    again = run_study(read_study(root / "tiny.yaml"), root / "out", data=[str(root / "data")], jobs=1, progress=False)
    pd.testing.assert_frame_equal(again, table)


def test_a_run_that_was_cut_short_is_resumed(table, root, tmp_path, monkeypatch):
    out, study, data = tmp_path / "out", read_study(root / "tiny.yaml"), [str(root / "data")]
    shutil.copytree(root / "out", out)
    first = table.iloc[0]
    shutil.rmtree(out / "cells" / first.key)
    shutil.rmtree(out / first.run)
    with monkeypatch.context() as cut:
        cut.setattr("pase_msa.studies.training_cell.shutil.rmtree", lambda *_, **__: None)
        run_study(study, out, data=data, jobs=1, progress=False)
    (out / "cells" / first.key / "result.json").unlink()
    (out / first.run / "results.json").unlink()
    resumed = []
    monkeypatch.setattr("pase_msa.studies.training_cell.train", lambda *a, **k: resumed.append(1) or train(*a, **k))
    again = run_study(study, out, data=data, jobs=1, progress=False)
    assert resumed == [1]
    same = [
        name for name in table.columns if name.split("/")[0] in ("variant", "seed", "test", "valid", "epochs", "run")
    ]
    pd.testing.assert_frame_equal(again[same], table[same])


@pytest.mark.slow
def test_a_study_that_is_killed_at_a_random_moment_ends_with_the_same_table(root, tmp_path):
    study = tmp_path / "killed.yaml"
    variants = {name: VARIANTS[name] for name in ("PaSE - PCL", "text")}
    study.write_text(yaml.safe_dump({"base": BASE, "variants": variants}, sort_keys=False))
    words = ["study", str(study), "--data", str(root / "data"), "--seeds", "2", "--validation-only", "--out"]
    child = subprocess.Popen(
        [sys.executable, "-m", "pase_msa", *words, str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while child.poll() is None and not list(tmp_path.glob("killed/runs/*/checkpoints/*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(np.random.default_rng().uniform(0, 1.5))
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(30)
    assert main([*words, str(tmp_path / "killed"), "--jobs", "1"]) == 0
    assert main([*words, str(tmp_path / "whole"), "--jobs", "1"]) == 0
    killed, whole = (pd.read_parquet(tmp_path / name / "table.parquet") for name in ("killed", "whole"))
    vary = {"seconds", "training_seconds", "seconds_an_epoch", "peak_memory_mb"}
    same = [name for name in whole.columns if name not in vary]
    pd.testing.assert_frame_equal(killed[same], whole[same])


def test_validation_only_reads_no_test_split_and_testing_later_trains_nothing(root, tmp_path, monkeypatch):
    study = read_study(root / "tiny.yaml")
    options = {"data": [str(root / "data")], "only": ["text"], "seeds": 1, "jobs": 1, "progress": False}
    with monkeypatch.context() as without:
        without.setattr("pase_msa.studies.training_cell.evaluate", lambda *_, **__: pytest.fail("tested"))
        table = run_study(study, tmp_path, test=False, **options)
    assert list(table.status) == ["done"]
    assert not [name for name in table.columns if name.startswith("test/")]
    monkeypatch.setattr("pase_msa.studies.training_cell.train", lambda *_, **__: pytest.fail("trained again"))
    tested = run_study(study, tmp_path, test=True, **options)
    assert tested.loc[0, "valid/mae"] == table.loc[0, "valid/mae"]
    assert tested.loc[0, "test/mae"] > 0


def test_a_variant_that_cannot_be_trained_does_not_stop_the_others(root, tmp_path):
    file = tmp_path / "half.yaml"
    bad = {"good": {"model": {"name": "concat"}}, "bad": {"model": {"name": "concat", "widht": 3}}}
    file.write_text(yaml.safe_dump({"base": {"training": BASE["training"]}, "variants": bad}, sort_keys=False))
    table = run_study(
        read_study(file), tmp_path / "out", data=[str(root / "data")], seeds=1, jobs=1, test=False, progress=False
    )
    assert list(table.status) == ["done", "failed"]
    assert "widht" in table.error[1]


def test_the_key_is_a_function_of_configuration_data_seed_and_split(root):
    study = read_study(root / "tiny.yaml")

    def keys(**options):
        return {cell.key for cell in study_cells(study, data=[str(root / "data")], only=["text"], **options)}

    one = keys(seeds=[1])
    assert keys(seeds=[1]) == one
    assert not keys(seeds=[2]) & one
    assert not keys(seeds=[1], test=False) & one
    assert not {cell.key for cell in study_cells(study, only=["text"], seeds=[1])} & one, "other data"
    shutil.copytree(root / "data", root / "moved")
    assert {cell.key for cell in study_cells(study, data=[str(root / "moved")], only=["text"], seeds=[1])} == one


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("variants: [a]", "wants `variants`"),
        ("base: {}", "wants `variants`"),
        ("variants: {a: {}}\nbase: {}\nmore: 1", "'more'"),
        ("[1]", "must hold a mapping"),
        ("a: [", "not valid YAML"),
        ("variants: {a: {}}\nseeds: []", "one seed or more"),
    ],
)
def test_a_file_that_holds_no_study_is_refused(content, words, tmp_path):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(PaSEError) as caught:
        read_study(tmp_path / "x.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"only": ["txt"]}, "not 'txt'"),
        ({"only": ["smell"]}, "No variant of the study"),
        ({"data": ["nowhere"]}, "nowhere"),
    ],
)
def test_an_empty_grid_is_refused(options, words, root):
    with pytest.raises(PaSEError) as caught:
        study_cells(read_study(root / "tiny.yaml"), **{"data": [str(root / "data")], **options})
    assert words in str(caught.value)


def test_unknown_options_are_refused_before_anything_runs(root, tmp_path):
    (tmp_path / "x.yaml").write_text("variants: {a: {trainning: {}}}")
    with pytest.raises(PaSEError, match="trainning"):
        study_cells(read_study(tmp_path / "x.yaml"), data=[str(root / "data")])


def test_changes_are_merged_into_the_base():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}, "d": [1]}) == {"a": {"b": 5, "c": 2}, "d": [1]}


def test_names_of_data_sets_have_as_many_parts_of_the_path_as_make_them_differ():
    assert dataset_names(["/x/mosi", "/y/mmmo"]) == {"/x/mosi": "mosi", "/y/mmmo": "mmmo"}
    assert dataset_names(["/x/mosi", "/y/mosi", None]) == {"/x/mosi": "x/mosi", "/y/mosi": "y/mosi", None: "synthetic"}


def test_the_entry_names_data_seeds_command_and_links_to_the_runs(table, root, tmp_path):
    place = tmp_path / "experiments"
    place.mkdir()
    words = ["pase", "study", "tiny.yaml", "--only", "PaSE - PCL"]
    entry = ledger_entry(
        table, root / "out", title="tiny", command=words, fingerprints={"data": "0123456789abcdef99"}, place=place
    )
    assert "pase study tiny.yaml --only 'PaSE - PCL'" in entry
    assert "`data` (0123456789abcdef)" in entry
    assert "Seeds: 1, 2. Cells: 6, of which 0 failed." in entry
    assert render_split(table, "test") in entry
    links = [part.split(")")[0] for part in entry.split("](")[1:]]
    assert len(links) == 4
    assert all((place / link / "results.json").is_file() for link in links)
    ledger = place / "LEDGER.md"
    ledger.write_text("# Ledger\n\nOld.\n")
    append(ledger, entry)
    append(ledger, entry)
    assert ledger.read_text() == f"# Ledger\n\nOld.\n\n{entry}"


def test_the_command_prints_the_table_and_writes_the_entry(table, root, capsys):
    words = ["study", str(root / "tiny.yaml"), "--data", str(root / "data"), "--jobs", "1", "--out", str(root / "out")]
    assert main([*words, "--only", "text", "--only", "ridge", "--seeds", "2", "--ledger", str(root / "L.md")]) == 0
    printed = capsys.readouterr().out
    assert "| text |" in printed
    assert "PCL" not in printed
    assert (root / "out" / "ledger.md").read_text().startswith("## tiny\n")
    assert "out/runs/text-data-seed1-" in (root / "L.md").read_text()


def test_failed_cells_are_told_in_one_sentence_at_the_end(root, tmp_path, capsys):
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump({"variants": {"bad": {"model": {"name": "concat", "widht": 3}}}}, sort_keys=False))
    words = [
        "study",
        str(file),
        "--data",
        str(root / "data"),
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("pase: 1 of 1 cells failed (bad, data, seed 1:")
    assert "widht" in json.loads(next((tmp_path / "o").glob("cells/*/error.json")).read_text())["error"]
