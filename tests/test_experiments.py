"""The studies and sweeps in experiments/: every variant and every end of a space is a valid configuration."""

from pathlib import Path

import pytest
import yaml

from experiments import systems
from pase_msa import plugins
from pase_msa.errors import PaSEError
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


SYSTEMS = systems.systems()


def test_the_page_of_systems_names_every_system_and_what_is_missing():
    text = (EXPERIMENTS.parent / "docs" / "systems.md").read_text()
    assert [system.name for system in SYSTEMS] == [*plugins.names("models"), *plugins.names("balancing")]
    for system in SYSTEMS:
        row = next((line for line in text.splitlines() if line.startswith(f"| [`{system.name}`](")), None)
        assert row is not None, f"{system.name} has no row; make the page anew with `python -m experiments.systems`"
        assert system.reduced in row


def test_a_system_that_says_what_is_missing_is_marked_as_reduced():
    for system in SYSTEMS:
        assert system.reduced or not system.left_out, system.name
        assert len(system.reduced) < 60
        assert not system.reduced.endswith(".")


def test_the_oracles_and_tests_of_systems_are_there():
    found = {system.name: system for system in SYSTEMS}
    for name, (_, function) in systems.ORACLES.items():
        assert f"def {function}(" in found[name].oracle[0].read_text(), name
    assert all(found[name].tests is not None for name in systems.SHARED_TESTS)


def test_lines_of_code_are_those_without_comments_and_docstrings():
    assert systems.lines_of_code('"""Of a\nfile."""\n\nx = (\n    1  # one\n)\n# no\ndef f():\n    """Of f."""\n') == 4


def test_figures_are_those_of_the_tables(tmp_path):
    (tmp_path / "toy").mkdir()
    lines = [
        "method,metric,mean,source",
        "tfn,mae,0.9,measured",
        "quoted: TFN,mae,0.1,paper",
        "concat + agm,ua,0.5,measured",
    ]
    (tmp_path / "toy" / "table1.csv").write_text("\n".join(lines))
    text = systems.page(SYSTEMS, [tmp_path / "toy"], EXPERIMENTS.parent / "docs" / "systems.md", "a command")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| [`")}
    assert rows["tfn"].endswith("| 0.900 |  |")
    assert rows["agm"].endswith("|  | 50.0 |")
    assert rows["lmf"].endswith("|  |  |")
    with pytest.raises(PaSEError, match=r"table1\.csv"):
        systems.figures(tmp_path)
