"""Every example runs as a user would run it: offline, from elsewhere, within its time, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
PRINTED = {
    "calibrate_your_model": "accuracy",
    "estimator": "R2 on new videos",
    "from_pretrained": "the saved model predicts what the trained one did: True",
    "new_fusion": "MaxFusion, R2",
    "onnx_runtime": "ONNX Runtime predicts what the trained model does: True",
    "shapley_modulation": "phi",
    "transport": "converged: True",
}


# an export takes longest, and every kind of it is in tests/serve/test_export.py
LONG = {"onnx_runtime"}
CASES = [pytest.param(e, id=e.stem, marks=[pytest.mark.slow] if e.stem in LONG else []) for e in EXAMPLES]


@pytest.mark.parametrize("path", CASES)
def test_example_runs_quietly(path, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PASE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert PRINTED[path.stem] in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_examples_are_short_and_all_there():
    assert {path.stem for path in EXAMPLES} == set(PRINTED)
    assert all(len(path.read_text().splitlines()) < 100 for path in EXAMPLES)
