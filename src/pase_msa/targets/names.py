"""The targets of a run: the labels that `--label` divides by commas, and the folder of each."""

from __future__ import annotations

import re
from pathlib import Path

from pase_msa.data.guard import TARGETS
from pase_msa.errors import PaSEError
from pase_msa.files import read_json, write_json

FORMAT = 1


def target_names(label: str | None) -> list[str]:
    """The labels of a run, in order; one or none where there are not several.

    Errors:
        PaSEError: a label that is given twice, or an empty one.
    """
    if label is None:
        return []
    names = [name.strip() for name in label.split(",")]
    if len(names) > 1 and not all(names):
        raise PaSEError(f"Several labels are divided by commas, as in valence,arousal, found {label!r}; name each.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise PaSEError(f"The label {twice[0]!r} is given twice; name each target once.")
    return names


def write_targets(root: Path, names: list[str]) -> None:
    """Write which targets a run has, and the folder of each below `targets`."""
    folders = folder_names(names)
    listed = [{"label": name, "folder": folder} for name, folder in zip(names, folders, strict=True)]
    write_json(root / TARGETS, {"format": FORMAT, "targets": listed})


def folder_names(names: list[str]) -> list[str]:
    """A name of a folder per target: its own, where a file system takes it."""
    plain = [re.sub(r"\W", "_", name) for name in names]
    return [f"{i + 1}_{name}" if plain.count(name) > 1 else name for i, name in enumerate(plain)]


def target_folders(root: str | Path) -> dict[str, Path] | None:
    """The run folder of each target by its label; None where a run has one target.

    Errors:
        PaSEError: the list of targets is damaged, or of a later version.
    """
    file = Path(root) / TARGETS
    if not file.is_file():
        return None
    content = read_json(file, keys=("format", "targets"), remedy="train the run again")
    if content["format"] != FORMAT:
        raise PaSEError(f"{file} was to have the format {FORMAT}, found {content['format']}; train the run again.")
    try:
        listed = {str(entry["label"]): str(entry["folder"]) for entry in content["targets"]}
    except (TypeError, KeyError) as error:
        raise PaSEError(f"{file} lists no targets with a label and a folder; train the run again.") from error
    if not listed or any(re.fullmatch(r"\w+", folder) is None for folder in listed.values()):
        raise PaSEError(f"{file} names a folder that is none of a target; train the run again.")
    return {label: Path(root) / "targets" / folder for label, folder in listed.items()}
