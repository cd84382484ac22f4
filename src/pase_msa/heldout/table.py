"""A diagnosis as text for a terminal, and the words that table, picture and documentation share."""

from __future__ import annotations

import textwrap
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pase_msa.heldout.verdict import CLOSED

if TYPE_CHECKING:
    from pase_msa.heldout.contributions import Estimate
    from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis

HEADINGS = {"sample": "in sample", "random": "random folds", "grouped": "folds by video", "valid": "validation"}
"""Where a contribution was measured -> what a reader is shown, in the order in which they are compared."""

_READING = (
    "From left to right: what is lost from in sample to random folds was memorised; from random folds to folds by "
    "video it was the identity of the video; from there to validation it was contamination, or validation differs.",
    "Contributions are Shapley values of the gain in log-likelihood over knowing nothing, with a 95 % interval in "
    "which the utterances of a video count as one observation; verdicts ask for 99.5 % certainty.",
)


def advice(found: ModalityDiagnosis) -> str:
    """What to do with a modality, in a few words."""
    if found.verdict == "useful":
        return "read it"
    if found.verdict in CLOSED:
        return "close it"
    if found.verdict != "undecided":
        return "can be left out"
    if found.more_videos is not None:
        plural = "" if found.more_videos == 1 else "s"
        return f"get {found.more_videos:,} more validation video{plural} to decide"
    if found.evidence.valid.videos < 2:
        return "get more validation videos to decide"
    return "no number of videos within reach decides"


def counted(diagnosis: Diagnosis) -> str:
    """Size of both splits, in words."""
    return "; ".join(
        f"{split}: {_number(diagnosis.counts.get(f'{split}_utterances', 0), 'utterance')} of "
        f"{_number(diagnosis.counts.get(f'{split}_videos', 0), 'video')}"
        for split in ("training", "validation")
    )


def render_diagnosis(diagnosis: Diagnosis, width: int = 118) -> str:
    """Contributions, verdict and advice, a line a modality; why, a sentence a modality; and how to read it.

    Args:
        diagnosis: what `pase_msa.diagnose` found.
        width: of the text, in characters.
    """
    out = StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False, emoji=False)
    console.print("Contribution of each modality, in nats an utterance", markup=False)
    console.print(counted(diagnosis), markup=False)
    grid = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(("modality", *HEADINGS.values(), "verdict", "what to do")):
        number = 0 < i <= len(HEADINGS)
        grid.add_column(title, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for name, found in diagnosis.modalities.items():
        evidence = found.evidence
        values = [f"{getattr(evidence, source).value:+.3f}" for source in HEADINGS]
        values[-1] += f" {_interval(evidence.valid)}"
        grid.add_row(*(Text(cell) for cell in (name, *values, found.verdict, advice(found))))
    console.print(grid)
    lines = [f"{name}: {found.verdict}, {found.why}." for name, found in diagnosis.modalities.items()]
    sentences = [line for text in (*lines, "", *_READING) for line in textwrap.wrap(text, width) or [""]]
    return "\n".join(line.rstrip() for line in (*out.getvalue().splitlines(), *sentences)) + "\n"


def _interval(found: Estimate) -> str:
    if not np.isfinite(found.error):
        return "[one video: no interval]" if found.videos == 1 else "[no interval]"
    return f"[{found.low:+.3f}, {found.high:+.3f}]"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
