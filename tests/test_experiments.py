"""Studies that are shipped: every variant is a valid configuration, and a small study runs and goes on."""

from pathlib import Path

import pytest
import yaml

from experiments import study
from pase_msa import plugins
from pase_msa.data.synthetic import synthetic_table
from pase_msa.encoders.text import TextConfig
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.phases import PhaseConfig
from tests.toys import tiny_spec

HOME = Path(study.__file__).parent
STUDIES = [file for file in sorted(HOME.glob("*.yaml")) if "variants" in yaml.safe_load(file.read_text())]


def _variants():
    for file in STUDIES:
        content = yaml.safe_load(file.read_text())
        for name, change in content["variants"].items():
            yield pytest.param(study.merge(content["base"], change or {}), id=f"{file.stem}-{name}")


@pytest.mark.parametrize("options", list(_variants()))
def test_a_variant_is_a_valid_configuration(options):
    nested = {"text": TextConfig, "training": TrainingConfig, "phases": PhaseConfig}
    config = RunConfig(**{key: nested[key](**v) if key in nested else v for key, v in options.items()})
    for kind, given in (("models", config.model), ("modulation", config.modulation)):
        name = given.get("name")
        if name not in (None, "ridge"):
            rest = {key: value for key, value in given.items() if key != "name"}
            plugins.configure(plugins.load(kind, name).Config, rest, name)


def test_a_study_makes_a_table_and_runs_no_finished_cell_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synthetic_table(tiny_spec(), path=tmp_path / "data")
    file = tmp_path / "tiny.yaml"
    small = {"model": {"width": 4}, "training": {"epochs": 1, "threads": 1, "accelerator": "cpu"}}
    file.write_text(yaml.safe_dump({"base": small, "variants": {"a": {}, "b": {"model": {"name": "concat"}}}}))
    first = study.run(file, str(tmp_path / "data"), [1], 1, None, test=True)
    monkeypatch.setattr("pase_msa.training.run.train", lambda *_, **__: pytest.fail("trained again"))
    assert study.run(file, str(tmp_path / "data"), [1], 1, None, test=True) == first
    table = study.render(first, "test")
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["a", "b"]
