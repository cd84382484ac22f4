"""The studies and sweeps in experiments/: every variant and every end of a space is a valid configuration."""

from pathlib import Path

import pytest
import yaml

from pase_msa import plugins
from pase_msa.studies.study import read_study
from pase_msa.studies.sweep import options_of, read_sweep
from pase_msa.training.config import RunConfig

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SWEEPS = [file for file in sorted(EXPERIMENTS.glob("*.yaml")) if "space" in yaml.safe_load(file.read_text())]
STUDIES = [file for file in sorted(EXPERIMENTS.glob("*.yaml")) if "variants" in yaml.safe_load(file.read_text())]


def _variants():
    for file in STUDIES:
        for name, options in read_study(file).variants.items():
            yield pytest.param(options, id=f"{file.stem}-{name}")


def _is_valid(options):
    if options.get("model", {}).get("name") == "ridge":  # solved by studies, and no plug-in
        options = {**options, "model": {"name": "concat"}}
    config = RunConfig.from_options(options)
    for kind, given in (("models", config.model), ("balancing", config.balancing)):
        name = given.get("name")
        if name is not None:
            rest = {key: value for key, value in given.items() if key != "name"}
            plugins.configure(plugins.load(kind, name).Config, rest, name)


@pytest.mark.parametrize("options", list(_variants()))
def test_a_variant_is_a_valid_configuration(options):
    _is_valid(options)


def _corners():
    for file in SWEEPS:
        sweep = read_sweep(file)
        for name, entry in sweep.space.items():
            for value in entry.get("choices") or (entry["low"], entry["high"]):
                yield pytest.param(options_of(sweep, {name: value}), id=f"{file.stem}-{name}-{value}")


@pytest.mark.parametrize("options", list(_corners()))
def test_an_end_of_a_space_is_a_valid_configuration(options):
    _is_valid(options)
