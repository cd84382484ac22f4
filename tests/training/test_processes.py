"""Training in two processes writes one run folder and prints one summary."""

import json
import subprocess
import sys

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec
from tests.toys import tiny_spec


def test_two_processes_make_one_run(tmp_path):
    spec = tiny_spec()
    deceptive = ModalitySpec(4, strength=0.0, noise=0.3, deception=1.0, length=(1, 1))
    spec.modalities["vision"] = deceptive
    synthetic_table(spec, path=tmp_path / "data")
    command = [sys.executable, "-m", "pase_msa", "train", "--data", str(tmp_path / "data")]
    command += ["--out", str(tmp_path / "run"), "--model.width", "8", "--training.epochs", "2"]
    command += ["--training.accelerator", "cpu", "--training.devices", "2", "--training.threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "pase: " not in done.stderr, done.stderr
    assert done.stdout.count("next: pase evaluate") == 1
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["status"] == "complete"
