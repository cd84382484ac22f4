"""The house stands in storeys: what is imported stands above, and no file is too long to read."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pase_msa"
# metrics and calibration stand above the data because training needs them, and need nothing but the task themselves
# extraction stands below the encoders, because it reads text with theirs and writes tables
STOREYS = (
    "errors",
    "strict_json",
    "parallel",
    "task",
    "batch",
    "plugins",
    "metrics",
    "calibration",
    "data",
    "encoders",
    "extract",
    "prototypes",
    "transport",
    "alignment",
    "weighting",
    "fusion",
    "objective",
    "shapley",
    "heldout",
    "balancing",
    "models",
    "training",
    "evaluation",
    "figures",
    "language_models",
    "serve",
    "studies",
    "reproduce",
    "estimator",
    "commands",
    "cli",
)
FILES = sorted(SOURCE.rglob("*.py"))


def storey(file):
    part = file.relative_to(SOURCE).parts[0]
    return part.removesuffix(".py")


def imported(file):
    """Storeys that a file imports from, with the line."""
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


def shown(file):
    return str(file.relative_to(SOURCE))


def test_every_file_has_a_storey():
    assert {storey(file) for file in FILES} <= {*STOREYS, "__init__", "__main__"}


@pytest.mark.parametrize("file", FILES, ids=shown)
def test_imports_point_up_only(file):
    if file.parent == SOURCE and file.stem.startswith("__"):
        return  # the package itself offers everything
    mine = STOREYS.index(storey(file))
    wrong = [(name, line) for name, line in imported(file) if STOREYS.index(name) > mine]
    assert wrong == []


@pytest.mark.parametrize("file", FILES, ids=shown)
def test_a_file_has_at_most_400_lines(file):
    assert len(file.read_text().splitlines()) <= 400
