"""A diagnosis as text for a terminal, and the words that table, picture and documentation share."""

from __future__ import annotations

import textwrap
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from pase_msa.heldout.verdict import EXCLUDED

if TYPE_CHECKING:
    from pase_msa.heldout.contributions import Estimate
    from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis

HEADINGS = {"sample": "in sample", "random": "random folds", "grouped": "folds by video", "valid": "validation"}
"""Where a contribution was measured -> its heading, in the order in which they are compared."""

_READING = (
    "From left to right: what is lost from in sample to random folds was memorised; from random folds to folds by "
    "video it was the identity of the video; from there to validation it was contamination, or validation differs.",
    "Contributions are Shapley values of the gain in log-likelihood over predicting the mean of the training labels, "
    "in nats (units of the natural logarithm), with a 95 % interval in which the utterances of a video count as one "
    "observation; verdicts ask for 99.5 % certainty.",
)


def advice(row: ModalityDiagnosis) -> str:
    """What to do with a modality, in a few words."""
    if row.verdict == "useful":
        return "use it"
    if row.verdict in EXCLUDED:
        return "exclude it"
    if row.verdict != "undecided":
        return "can be left out"
    if row.more_videos is not None:
        plural = "" if row.more_videos == 1 else "s"
        return f"get {row.more_videos:,} more validation video{plural} to decide"
    if row.evidence.valid.videos < 2:
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
    """Contributions, verdict and advice, one line per modality; the reason, one sentence per modality; how to read it.

    Args:
        diagnosis: what `pase_msa.diagnose` returns.
        width: of the text, in characters.
    """
    lines = [f"{name}: {row.verdict}, {row.why}." for name, row in diagnosis.modalities.items()]
    sentences = [line for text in (*lines, "", *_READING) for line in textwrap.wrap(text, width) or [""]]
    return "\n".join(line.rstrip() for line in (*_contributions(diagnosis, width).splitlines(), *sentences)) + "\n"


def _contributions(diagnosis: Diagnosis, width: int) -> str:
    """The table."""
    # here, so that the words above can be had without a library for terminals
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False, emoji=False)
    console.print("Contribution of each modality, in nats per utterance", markup=False)
    console.print(counted(diagnosis), markup=False)
    table = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(("modality", *HEADINGS.values(), "verdict", "what to do")):
        number = 0 < i <= len(HEADINGS)
        table.add_column(title, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for name, row in diagnosis.modalities.items():
        values = [f"{getattr(row.evidence, source).value:+.3f}" for source in HEADINGS]
        values[-1] += f" {_interval(row.evidence.valid)}"
        table.add_row(*(Text(cell) for cell in (name, *values, row.verdict, advice(row))))
    console.print(table)
    return out.getvalue()


def _interval(result: Estimate) -> str:
    if not np.isfinite(result.error):
        return "[one video: no interval]" if result.videos == 1 else "[no interval]"
    return f"[{result.low:+.3f}, {result.high:+.3f}]"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
