"""Pages that are made from the code when the site is built: the command line, and the list of modules."""

from __future__ import annotations

import ast
import contextlib
import io
import os
from pathlib import Path
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pase_msa"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    files.append(File.generated(config, "reference/command-line.md", content=command_line()))
    files.append(File.generated(config, "reference/internals.md", content=internals()))
    return files


def command_line() -> str:
    """The help of `pase` and of each of its commands."""
    from pase_msa.cli.main import commands

    overview, names = _help(), commands()
    parts = [
        "# Command line",
        "What `pase --help` and `pase COMMAND --help` print. `python -m pase_msa` is the same command. Exit status: 0 "
        "for success, 2 for a mistake in what was asked for (one sentence says which), 1 for an error of the program.",
        f"```text\n{overview}\n```",
    ]
    for name in names:
        parts += [f"## pase {name}", f"```text\n{_help(name)}\n```"]
    parts.append(
        "The options that begin with `--model.` and `--balancing.` belong to the chosen model and balancing method: "
        "`pase train --model tfn --balancing ogm_ge --help` lists those of the two."
    )
    return "\n\n".join(parts) + "\n"


def _help(*words: str) -> str:
    from pase_msa.cli.main import main

    printed = io.StringIO()
    width = mock.patch.dict(os.environ, {"COLUMNS": "110"})
    with width, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue().strip()


def layers() -> list[str]:
    """The modules and packages in the order in which they may import each other: the list that the test checks."""
    for node in ast.walk(ast.parse((ROOT / "tests" / "test_layers.py").read_text())):
        if isinstance(node, ast.Tuple) and len(node.elts) > 10:
            return [item.value for item in node.elts if isinstance(item, ast.Constant)]
    raise RuntimeError("tests/test_layers.py has no list of layers")


def internals() -> str:
    """Every module with the first sentence of its docstring, layer by layer."""
    lines = [
        "# Internals",
        "Modules that are not part of the [public interface](index.md). They may change with any version. The list is "
        "in the order of the layers: a module imports only from its own layer and from those above it, and "
        "`tests/test_layers.py` checks that.",
    ]
    for layer in layers():
        found = sorted((SOURCE / layer).rglob("*.py")) if (SOURCE / layer).is_dir() else [SOURCE / f"{layer}.py"]
        rows = [f"| `{_name(file)}` | {_first_sentence(file)} |" for file in found if file.is_file()]
        if rows:
            lines += [f"## {layer}", "\n".join(["| module | what it holds |", "| --- | --- |", *rows])]
    return "\n\n".join(lines) + "\n"


def _name(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def _first_sentence(file: Path) -> str:
    paragraph = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", r"\|")
