"""A figure with its data on disk: PNG, SVG and CSV, all three or none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as MplFigure

from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, replacing
from pase_msa.report.style import styled


def save(figure: MplFigure, frame: pd.DataFrame, stem: str | Path) -> tuple[Path, Path, Path]:
    """Write `stem.png` (200 dots per inch), `stem.svg` and `stem.csv`; the same figure gives the same bytes.

    Args:
        figure: what a `draw` returned.
        frame: what it was drawn from.
        stem: path without a suffix; its folder is made.

    Errors:
        PaSEError: the folder cannot be made or written to.
    """
    with styled():
        png, svg, csv = _write_all(
            Path(stem),
            {
                "png": lambda path: figure.savefig(path, format="png", dpi=200, metadata={"Software": None}),
                "svg": lambda path: figure.savefig(path, format="svg", metadata={"Date": None}),
                "csv": lambda path: frame.to_csv(path, index=False, float_format="%.8g"),
            },
        )
    return png, svg, csv


def save_table(frame: pd.DataFrame, stem: str | Path) -> Path:
    """Write `stem.csv`, whole or not at all; the folder is made.

    Errors:
        PaSEError: the folder cannot be made or written to.
    """
    (written,) = _write_all(Path(stem), {"csv": lambda path: frame.to_csv(path, index=False, float_format="%.8g")})
    return written


def _write_all(stem: Path, writers: dict[str, Callable[[Path], object]]) -> tuple[Path, ...]:
    """Write every file under a temporary name first, then move all of them into place."""
    targets = {suffix: stem.with_name(f"{stem.name}.{suffix}") for suffix in writers}
    try:
        make_folder(stem.parent)
        with ExitStack() as stack:
            for suffix, write in writers.items():
                write(stack.enter_context(replacing(targets[suffix])))
    except OSError as error:
        raise PaSEError(f"{stem} cannot be written ({error.strerror or error}); name another place.") from error
    return tuple(targets.values())
