"""What comes with an extra: nothing else needs it, and what needs it names the extra."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from pase_msa.data import open_table
from pase_msa.data.pretrained import load_tokenizer
from pase_msa.errors import PaSEError
from pase_msa.optional import EXTRAS, need
from tests.loading import run_each

DISTRIBUTIONS = packages_distributions()
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def name_of(requirement):
    return re.split(r"[\[<>=~!; ]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("package", sorted(EXTRAS))
def test_an_extra_brings_its_package(package):
    listed = {name_of(item) for item in PROJECT["optional-dependencies"][EXTRAS[package]]}
    distributions = {name.lower().replace("_", "-") for name in DISTRIBUTIONS.get(package, [package])}
    assert distributions & listed
    assert not distributions & {name_of(item) for item in PROJECT["dependencies"]}


def test_all_is_everything_but_what_few_may_or_want_to_install():
    (requirement,) = PROJECT["optional-dependencies"]["all"]
    names = set(re.search(r"\[(.*)\]", requirement)[1].split(","))
    assert names == set(PROJECT["optional-dependencies"]) - {"all", "egemaps", "gguf", "examples", "docs", "dev"}


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("pase_msa.optional.find_spec", lambda name: None)
    with pytest.raises(PaSEError, match=r"packages av, librosa, .* `pip install 'pase-msa\[media\]'`"):
        need("av", "librosa")
    (tmp_path / "a.csd").write_bytes(b"")
    with pytest.raises(PaSEError, match=r"pase-msa\[hdf5\]"):
        open_table(tmp_path)
    load_tokenizer.cache_clear()
    with pytest.raises(PaSEError, match=r"pase-msa\[text\]"):
        load_tokenizer("minilm")


# packages that are hidden from the interpreter, as if they were not installed: neither found nor listed
_WITHOUT = """
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, PackageNotFoundError

hidden, find, from_name = {packages!r}, PathFinder.find_spec, Distribution.from_name

def visible(name, *rest):
    return None if name.partition(".")[0] in hidden else find(name, *rest)

PathFinder.find_spec = staticmethod(visible)

def listed(name):
    if name.lower() in hidden:
        raise PackageNotFoundError(name)
    return from_name(name)

Distribution.from_name = listed
"""
_TRAIN = """
import pathlib, tempfile
from pase_msa import PaSERegressor, diagnose
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import train

spec = SyntheticSpec({"text": ModalitySpec(dim=4), "audio": ModalitySpec(dim=3)}, train=40, valid=20, test=20)
table = synthetic_table(spec)
config = RunConfig(out=tempfile.mkdtemp() + "/run", training=TrainingConfig(epochs=1, threads=1))
folder = train(config, table=table, progress=False)
print(diagnose(table))
print(folder.results.is_file())
"""


def test_core_packages_are_enough_to_train_and_to_diagnose():
    # requests and filelock are left out of the list, because datasets needs them itself
    packages = set(EXTRAS) - {"requests", "filelock"}
    ((_, printed),) = run_each({"train": _WITHOUT.format(packages=sorted(packages)) + _TRAIN}).values()
    assert printed.endswith("True\n")


def test_a_command_names_the_extra_that_it_lacks():
    code = _WITHOUT.format(packages=["optuna", "gradio"]) + "\nimport sys\nsys.stderr = sys.stdout\n"
    code += "from pase_msa.cli.main import main\nprint(main(WORDS))\n"
    words = {"sweep": ["sweep", "s.yaml"], "demo": ["demo", "run"]}
    results = run_each({name: code.replace("WORDS", repr(value)) for name, value in words.items()})
    assert "package optuna" in results["sweep"][1]
    assert "pase-msa[studies]" in results["sweep"][1]
    assert "pase-msa[demo]" in results["demo"][1]
