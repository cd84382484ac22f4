"""The wheel: built from the sources, complete, and usable where it is installed without them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "pase_msa"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def run(*words):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: setuptools would put what an earlier build has left into it."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(SOURCE, copy / "src" / "pase_msa", ignore=shutil.ignore_patterns("__pycache__"))
    out = copy / "dist"
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", out, copy)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def home(wheel, tmp_path_factory):
    """A virtual environment with the wheel, which finds what it depends on where this one has it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    return folder


def test_the_wheel_holds_every_file(wheel):
    files = {str(file.relative_to(SOURCE.parent)) for file in SOURCE.rglob("*") if file.is_file()}
    expected = {file for file in files if "__pycache__" not in file}
    assert {Path(file).suffix for file in expected} >= {".py", ".typed", ".html", ".css", ".js", ".csv"}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_the_description_has_no_link_that_leads_nowhere(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = BytesParser().parsebytes(archive.read(name))
    assert metadata["Version"] == VERSION
    text = metadata.get_payload()
    assert "# PaSE" in text
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    assert not re.findall(r"\]\((?![a-z]+:)[^)]*\)|src=\"(?![a-z]+:)", prose)


def test_the_installed_package_works(home):
    python, pase = home / "bin" / "python", home / "bin" / "pase"
    code = "import pase_msa; from pase_msa import calibration_loss; print(pase_msa.__file__, pase_msa.__version__)"
    file, version = run(python, "-c", code).split()
    assert home in Path(file).parents
    assert version == VERSION
    assert run(pase, "--version") == f"pase {VERSION}\n"
    assert run(pase, "--help").startswith("usage: pase")


def test_the_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {VERSION}\n" in citation
