"""Training in two processes writes one run folder and prints one summary, whoever starts the processes."""

import json
import subprocess
import sys

import pytest
import torch

from pase_msa.cli.main import main
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec
from pase_msa.models.base import Model
from tests.toys import tiny_spec

OPTIONS = ["--model.width", "8", "--training.epochs", "2", "--training.accelerator", "cpu", "--training.threads", "1"]
TORCHRUN = ["-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]


@pytest.fixture
def data(tmp_path):
    """A folder with a table in which one modality deceives."""
    spec = tiny_spec()
    spec.modalities["vision"] = ModalitySpec(4, strength=0.0, noise=0.3, deception=1.0, length=(1, 1))
    synthetic_table(spec, path=tmp_path / "data")
    return tmp_path / "data"


def train(data, run, *words, launcher=()):
    """Train in a process of its own, and check that only one of the processes speaks."""
    command = [sys.executable, *launcher, "-m", "pase_msa", "train", "--data", str(data), "--out", str(run)]
    done = subprocess.run([*command, *OPTIONS, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "pase: " not in done.stderr, done.stderr
    assert done.stdout.count("next: pase evaluate") == done.stdout.count("best epoch") == 1
    return json.loads((run / "results.json").read_text())


def test_two_processes_make_one_run(data, tmp_path):
    results = train(data, tmp_path / "run", "--training.devices", "2")
    assert results["status"] == "complete"


@pytest.mark.slow
def test_torchrun_gives_the_run_of_two_devices(data, tmp_path):
    torchrun = [*TORCHRUN, "--nproc-per-node", "2"]
    results = train(data, tmp_path / "torchrun", launcher=torchrun)
    expected = train(data, tmp_path / "devices", "--training.devices", "2")
    assert results["validation"] == pytest.approx(expected["validation"], rel=1e-5)
    assert results["best_epoch"] == expected["best_epoch"]
    ours, theirs = (Model.from_pretrained(tmp_path / run / "model") for run in ("torchrun", "devices"))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    folders = [{path.name for path in (tmp_path / run).iterdir()} for run in ("torchrun", "devices")]
    assert folders[0] == folders[1]
    assert [path.name for path in (tmp_path / "torchrun" / "logs").iterdir()] == ["version_0"]


@pytest.mark.parametrize("devices", ["1", "3"])
def test_devices_that_torchrun_did_not_start_are_refused(data, tmp_path, monkeypatch, capsys, devices):
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    words = ["train", "--data", str(data), "--out", str(tmp_path / "run"), *OPTIONS, "--training.devices", devices]
    assert main(words) == 2
    assert f"torchrun started 2 processes on this machine, found training.devices {devices}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
