"""A page with one row per system: where it is, what it is checked against, what it leaves out, and its figures.

    python -m experiments.systems --tables experiments/results/reproduce/mosi --out docs/systems.md

A system is a model or a balancing method, found on disk. Figures are those of the folders that `pase reproduce table1`
(or `table2`) wrote, on the split that these name; a system without a run there has none.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.files import write_text
from pase_msa.report.numbers import format_value

ROOT = Path(__file__).parents[1]
KINDS = {"models": "Models", "balancing": "Balancing methods"}
#: of systems whose oracle is not the file of their own name: file in tests/reference, function
ORACLES = {
    "tfn": ("baselines", "outer_product"),
    "lmf": ("baselines", "full_weight"),
    "ef_lstm": ("baselines", "adaptive_pool"),
    "mult": ("systems", "crossmodal_layer"),
    "mag_bert": ("systems", "adaptation_gate"),
    "misa": ("systems", "moment_discrepancy"),
    "hycon": ("systems", "ratio_loss"),
    "self_mm": ("systems", "pseudo_label"),
    "pase": ("prototypes", "calibration"),
    "ogm_ge": ("baselines", "ogm_coefficients"),
    "agm": ("baselines", "agm_coefficients"),
    "gradient_blending": ("baselines", "blend"),
    "sgm": ("shapley", "shapley"),
    "held_out": ("ridge", "out_of_fold"),
}
#: of systems whose tests are not in the file of their own name; every system is in those of tests/contracts besides
SHARED_TESTS = {
    **dict.fromkeys(("tfn", "lmf", "ef_lstm", "lf_dnn", "concat"), "models/test_baselines.py"),
    **dict.fromkeys(("ogm_ge", "agm", "gradient_blending"), "balancing/test_baselines.py"),
}
#: how the first lines of a file begin to say what is not in it
_LEFT_OUT = re.compile(r"^(What is missing|Missing is|Not in this file)\b|\b(is|are) not here\b|^That part is missing")
#: columns of figures by the file that holds them
FIGURES = {
    "table1": {"acc2_negpos": "Acc-2", "mae": "MAE", "corr": "Corr", "accuracy": "WA", "ua": "UA"},
    "table2-overall": {"accuracy": "WA", "ua": "UA"},
    "table2-balancing-overall": {"accuracy": "WA", "ua": "UA"},
}


@dataclass(frozen=True)
class System:
    """A model or a balancing method.

    Attributes:
        kind: of plug-in.
        name: of the plug-in.
        file: of its source.
        lines: of code, without blank lines, comments and docstrings.
        oracle: the naive version that tests compare it with, and the function where the file has several; or None.
        tests: the file with the tests of its behaviour, or None where the contract tests are all.
        reduced: what makes it a reduced version; empty for a whole one.
        left_out: what its first lines say is missing.
    """

    kind: str
    name: str
    file: Path
    lines: int
    oracle: tuple[Path, str] | None
    tests: Path | None
    reduced: str
    left_out: str


def systems() -> list[System]:
    """All of them, by kind and name."""
    return [_system(kind, name) for kind in KINDS for name in plugins.names(kind)]


def _system(kind: str, name: str) -> System:
    file = ROOT / "src" / "pase_msa" / kind / f"{name}.py"
    source = file.read_text(encoding="utf-8")
    reference, function = ORACLES.get(name, (name, ""))
    oracle = ROOT / "tests" / "reference" / f"{reference}.py"
    tests = ROOT / "tests" / SHARED_TESTS.get(name, f"{kind}/test_{name}.py")
    return System(
        kind,
        name,
        file,
        lines_of_code(source),
        (oracle, function) if oracle.is_file() else None,
        tests if tests.is_file() else None,
        plugins.reduced(kind, name),
        left_out(ast.get_docstring(ast.parse(source)) or ""),
    )


def lines_of_code(source: str) -> int:
    """Lines with code on them: no blank lines, comments or docstrings."""
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def left_out(docstring: str) -> str:
    """The sentences of a docstring that say what is not there."""
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(docstring.split()))
    return " ".join(sentence for sentence in sentences if _LEFT_OUT.search(sentence))


def figures(folder: Path) -> dict[str, dict[str, str]]:
    """Method -> column -> mean, of the tables in a folder of `pase reproduce`.

    Errors:
        PaSEError: the folder has none of them.
    """
    found: dict[str, dict[str, str]] = {}
    files = {file: columns for stem, columns in FIGURES.items() if (file := folder / f"{stem}.csv").is_file()}
    if not files:
        raise PaSEError(
            f"{folder} has none of {', '.join(f'{stem}.csv' for stem in FIGURES)}; make them with `pase reproduce`."
        )
    for file, columns in files.items():
        for row in pd.read_csv(file).itertuples():
            if row.metric in columns and not str(row.method).startswith("quoted: "):
                found.setdefault(str(row.method), {})[columns[row.metric]] = format_value(row.metric, row.mean)
    return found


def method_of(system: System) -> str:
    """What a system is called in the tables; a balancing method is measured on concatenation."""
    if system.kind == "models":
        return {"pase": "PaSE"}.get(system.name, system.name)
    return "concat" if system.name == "none" else f"concat + {system.name}"


def page(found: list[System], tables: list[Path], out: Path, command: str) -> str:
    """The page in Markdown.

    Args:
        found: systems.
        tables: folders of `pase reproduce`.
        out: file of the page, which links are relative to.
        command: that makes the page.
    """
    measured = {folder.name: figures(folder) for folder in tables}
    columns = [
        (data, column)
        for data, methods in measured.items()
        for column in ("Acc-2", "MAE", "Corr", "WA", "UA")
        if any(column in values for values in methods.values())
    ]
    parts = ["# Systems", _INTRODUCTION.format(command=command)]
    for kind, title in KINDS.items():
        heading = ["name", "lines", "oracle", "tests", "reduced", "left out", *(f"{d}: {c}" for d, c in columns)]
        rows = [heading, ["---"] * len(heading)]
        for system in found:
            if system.kind == kind:
                values = [measured[data].get(method_of(system), {}).get(column, "") for data, column in columns]
                rows.append([*_cells(system, out), *values])
        parts += [f"## {title}", "\n".join("| " + " | ".join(row) + " |" for row in rows)]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """One row per model and balancing method. `{command}` makes this page.

- *lines* are those of code in the file that the name links to, without blank lines, comments and docstrings.
- *oracle* is a naive version in plain Python or NumPy, written from the formulas, that tests compare the system with.
  Where there is none, only the behaviour of the system is tested.
- *tests* are those of the system itself, and *shared* is a file for several systems. Every system also passes
  `tests/contracts`; *contracts* means that these are all.
- *reduced* and *left out* say what is missing of the published system. The figures of a reduced one are not those of
  the publication.
- Figures are means over seeds, of `pase reproduce`; a balancing method is measured on `concat`. Where there is no run,
  the cell is empty. WA is the accuracy over all classes, UA the mean recall."""


def _cells(system: System, out: Path) -> list[str]:
    """A system's row without its figures."""

    def link(text: str, file: Path) -> str:
        return f"[{text}]({Path(os.path.relpath(file, out.resolve().parent)).as_posix()})"

    oracle = "" if system.oracle is None else link(system.oracle[1] or system.oracle[0].stem, system.oracle[0])
    tests = "contracts" if system.tests is None else link(_count(system), system.tests)
    about = [system.reduced, system.left_out]
    return [
        link(f"`{system.name}`", system.file),
        str(system.lines),
        oracle,
        tests,
        *(_escaped(text) for text in about),
    ]


def _count(system: System) -> str:
    """How many tests a file has; a file of several systems is only named."""
    assert system.tests is not None
    if system.name in SHARED_TESTS:
        return "shared"
    return str(len(re.findall(r"^def test_", system.tests.read_text(encoding="utf-8"), re.M)))


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tables", nargs="*", type=Path, default=[], help="folders that `pase reproduce` wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/systems.md"))
    options = parser.parse_args()
    words = ["python -m experiments.systems", *(["--tables", *map(str, options.tables)] if options.tables else [])]
    text = page(systems(), options.tables, options.out, " ".join([*words, "--out", str(options.out)]))
    write_text(options.out, text)
    print(options.out)


if __name__ == "__main__":
    main()
