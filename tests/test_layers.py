"""Imports point one way: each layer imports only from those listed before it. No file is too long to read."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pase_msa"
# A layer is a folder or a file of the package. metrics and calibration need the task only and are needed by training;
# media reads text with the same encoder as data and writes tables.
LAYERS = (
    "errors",
    "ranges",
    "optional",
    "files",
    "locks",
    "plugins",
    "parallel",
    "distributed",
    "tasks",
    "task",
    "batch",
    "metrics",
    "calibration",
    "prototypes",
    "transport",
    "alignment",
    "weighting",
    "shapley",
    "data",
    "encoders",
    "media",
    "fusion",
    "objective",
    "heldout",
    "balancing",
    "cards",
    "models",
    "training",
    "evaluation",
    "report",
    "language_models",
    "serve",
    "targets",
    "studies",
    "paper",
    "estimator_base",
    "estimator",
    "cli",
)
FILES = sorted(SOURCE.rglob("*.py"))


def layer(file):
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(file):
    """Layers that a file imports from, with the line; imports inside functions and for types count too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where they lead"
            names = [node.module]
            if node.module == "pase_msa":
                names = [f"pase_msa.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("pase_msa."):
                yield name.split(".")[1], node.lineno


def relative(file):
    return str(file.relative_to(SOURCE))


def test_the_list_names_every_layer():
    assert {layer(file) for file in FILES} - {"__init__", "__main__"} == set(LAYERS)


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_a_file_imports_only_from_layers_before_its_own(file):
    if file.parent == SOURCE and file.stem.startswith("__"):
        return  # the package itself exports from all of them
    own = LAYERS.index(layer(file))
    assert [(name, line) for name, line in imported(file) if LAYERS.index(name) > own] == []


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_a_file_has_at_most_400_lines(file):
    assert len(file.read_text().splitlines()) <= 400
