"""The engine of studies: each cell is run once, whatever is killed, and every backend gives the same table."""

import gc
import importlib.util
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pase_msa.errors import PaSEError
from pase_msa.files import read_json
from pase_msa.studies.cells import Cell
from pase_msa.studies.engine import run_cells
from tests.studies.example_cells import cells, moody, slow_square, unplain

ROOT = Path(__file__).parents[2]
SAME = ["name", "key", "status", "square", "nested/half", "list"]


def start(root, backend="loky"):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.studies.example_cells", str(root), backend],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def notes(cell, root):
    file = cell.folder(root) / "notes"
    return file.read_text().split() if file.exists() else []


def results(root):
    return {file.parent.name for file in root.glob("cells/*/result.json")}


def run(chosen, function, root, **options):
    return run_cells(chosen, function, root=root, progress=False, **{"jobs": 1, **options})


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The table of a study that was not cut short."""
    root = tmp_path_factory.mktemp("whole")
    return run(cells(), slow_square, root, jobs=2)


def test_the_table_has_one_row_per_cell_with_labels_result_and_circumstances(expected):
    assert list(expected.name) == [f"n{number}" for number in range(6)]
    assert list(expected.square) == [0, 1, 4, 9, 16, 25]
    assert list(expected["nested/half"]) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert set(expected.status) == {"done"}
    assert (expected.seconds >= 0.3).all()
    assert expected.peak_memory_mb.between(20, 10_000).all()
    assert expected.versions.str.contains("pase-msa").all()


def test_a_finished_cell_is_never_run_again(tmp_path):
    first = run(cells(3), slow_square, tmp_path)
    again = run(cells(5), slow_square, tmp_path)
    pd.testing.assert_frame_equal(again.head(3), first)
    assert [notes(cell, tmp_path) for cell in cells(5)] == [["begun", "ended"]] * 5


def test_the_files_hold_the_table(tmp_path):
    table = run(cells(3), slow_square, tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table)
    from_csv = pd.read_csv(tmp_path / "table.csv")
    assert list(from_csv.columns) == list(table.columns)
    assert list(from_csv.square) == [0, 1, 4]
    assert not list(tmp_path.rglob("*.partial"))


def test_the_table_grows_while_the_study_runs(tmp_path):
    rows = []

    def count_rows(cell, folder):
        file = tmp_path / "table.csv"
        rows.append(len(pd.read_csv(file)) if file.exists() else 0)
        return {}

    run(cells(4), count_rows, tmp_path)
    assert rows == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "whole_group", [pytest.param(True, id="with its workers"), pytest.param(False, id="alone", marks=pytest.mark.slow)]
)
def test_a_killed_study_ends_with_the_same_table(whole_group, expected, tmp_path):
    random = np.random.default_rng()
    child = start(tmp_path)
    deadline = time.monotonic() + 90
    while not results(tmp_path) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.6))
    if whole_group:
        os.killpg(child.pid, signal.SIGKILL)
    else:
        os.kill(child.pid, signal.SIGKILL)
    child.wait(30)
    done = results(tmp_path)
    assert done, "it was killed before it had begun"
    # also one that has ended, but whose result was not written yet
    half = {cell.key for cell in cells() if notes(cell, tmp_path)} - done
    table = run(cells(), slow_square, tmp_path, jobs=2)
    pd.testing.assert_frame_equal(table[SAME], expected[SAME])
    # workers that outlive their study finish their cells, and no other process runs these beside them
    again = half if whole_group else set()
    begun = {cell.key: notes(cell, tmp_path).count("begun") for cell in cells()}
    assert begun == {key: 2 if key in again else 1 for key in begun}


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra `ray`)")
def test_two_workers_of_ray_give_the_same_table(expected, tmp_path):
    child = start(tmp_path, "ray")
    assert child.wait(240) == 0
    table = pd.read_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(table[SAME], expected[SAME])
    assert [notes(cell, tmp_path) for cell in cells()] == [["begun", "ended"]] * 6


@pytest.mark.parametrize("failing", [False, True])
def test_what_a_cell_made_is_gone_before_the_next_one_begins(failing, tmp_path):
    class Ring:
        """Refers to itself, as a trainer and its model refer to each other."""

        def __init__(self):
            self.itself = self

    made, left = [], []

    def remember(cell, folder):
        left.append([ring for ring in made if ring() is not None])
        ring = Ring()
        made.append(weakref.ref(ring))
        if failing:
            raise ValueError("no number")
        return {}

    gc.disable()
    try:
        run(cells(3), remember, tmp_path)
    finally:
        gc.enable()
    assert left == [[], [], []]


def test_a_cell_that_fails_does_not_stop_the_others_and_is_tried_again(tmp_path):
    some = [cell for cell in cells(4) if cell.options["number"] != 2]
    table = run(some, moody, tmp_path)
    assert list(table.status) == ["done", "failed", "done"]
    assert table.error[1] == "ValueError: one is no number"
    assert "in moody" in read_json(some[1].folder(tmp_path) / "error.json")["traceback"]
    (some[1].folder(tmp_path) / "mended").touch()
    assert list(run(some, moody, tmp_path).status) == ["done"] * 3
    assert [notes(cell, tmp_path) for cell in some] == [["begun"], ["begun"] * 2, ["begun"]]


def test_a_killed_worker_fails_its_own_cell_only(tmp_path):
    table = run(cells(5), moody, tmp_path, jobs=2)
    assert list(table.status) == ["done", "failed", "failed", "done", "done"]
    assert "killed" in table.error[2]


def test_a_result_that_json_cannot_hold_is_an_error_of_the_cell(tmp_path):
    table = run(cells(1), unplain, tmp_path)
    assert "TypeError" in table.error[0]


def test_cells_of_the_same_options_are_run_once_and_have_a_row_each(tmp_path):
    twins = [Cell({"number": 3}, {"name": name}) for name in ("a", "b")]
    table = run(twins, slow_square, tmp_path)
    assert list(table.name) == ["a", "b"]
    assert list(table.square) == [9, 9]
    assert notes(twins[0], tmp_path) == ["begun", "ended"]


def test_the_key_is_a_function_of_the_options_alone():
    cell = Cell({"a": 1, "b": [1.5, None]}, {"name": "x"}, {"path": "/here"})
    assert cell.key == Cell({"b": [1.5, None], "a": 1}, {"name": "y"}).key
    assert cell.key != Cell({"a": 2, "b": [1.5, None]}).key
    # results on disk must be found by later versions
    assert Cell({"number": 1}).key == "55c0e1505562"


def test_options_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(PaSEError, match="plain"):
        run([Cell({"a": object()})], slow_square, tmp_path)


def test_a_study_without_workers_is_refused(tmp_path):
    with pytest.raises(PaSEError, match="1 or more jobs"):
        run(cells(1), slow_square, tmp_path, jobs=0)


def test_another_cell_in_the_folder_is_refused(tmp_path):
    run(cells(1), slow_square, tmp_path)
    file = cells(1)[0].folder(tmp_path) / "result.json"
    file.write_text(file.read_text().replace('"number": 0', '"number": 7'))
    with pytest.raises(PaSEError, match="another cell"):
        run(cells(1), slow_square, tmp_path)
