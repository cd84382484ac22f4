"""Table 3: PaSE less one part at a time, and with other fusions."""

from __future__ import annotations

from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Part
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import comparison_grid, reading, score_grid
from pase_msa.reproduce.subject import Options, Subject

_PARTS: dict[str, Options] = {
    "- PCL": {"model": {"calibration": False}},
    "- CAL": {"model": {"alignment": False}},
    "- entropy weights": {"model": {"entropy_sign": "uniform"}},
    "- imputation": {"model": {"imputation": False}},
    "+ Sum": {"model": {"fusion": "sum"}},
    "+ Con": {"model": {"fusion": "concat"}},
    "+ Att": {"model": {"fusion": "attention"}},
}
_SHORT = ("- PCL", "- CAL", "+ Con")  # what the paper names as parts of the method, beside the equilibrium
_EARLY = f"{methods.PAPER} - dual phase"


def _parts(subject: Subject) -> dict[str, Options]:
    if subject.text == "fine-tuned":  # minutes a run: the short list
        return {part: _PARTS[part] for part in _SHORT}
    return _PARTS


def variants(subject: Subject) -> dict[str, Options]:
    """Each part of PaSE switched off, under either equilibrium; one without any equilibrium ends both lists."""
    found: dict[str, Options] = {}
    for whole in (methods.PAPER, methods.PASE):
        found[whole] = methods.named(whole)
        found |= {f"{whole} {part}": methods.named(whole, **change) for part, change in _parts(subject).items()}
    found[methods.NO_SGM] = methods.named(methods.NO_SGM)
    if subject.text == "frozen":
        # balancing from the first epoch in place of a warm-up
        found[_EARLY] = methods.named(methods.PAPER, phases={"start": "always"})
    return found


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    grids = []
    for whole, stem, more in (
        (methods.PAPER, "table3", {_EARLY: "- dual phase", methods.NO_SGM: "- SGM"}),
        (methods.PASE, "table3-held-out", {methods.NO_SGM: "- equilibrium"}),
    ):
        names = {whole: whole, **{f"{whole} {part}": part for part in _parts(found.subject)}, **more}
        order = [name for name in names if name in found.variants]
        title = f"{whole} less one part at a time, and with other fusions"
        # the published ablation is of the paper's equilibrium
        table = 3 if whole == methods.PAPER else None
        grids.append(score_grid(found, stem, title, order, table=table, names=names))
        grid = comparison_grid(
            found, f"{stem}-differences", f"{whole} less each of these", whole, order[1:], names=names
        )
        grids += [] if grid is None else [grid]
    notes = reading(found)
    notes += [
        "What a part is worth is the whole less the row without it: positive where the part helps an accuracy, "
        "negative where it helps MAE.",
        "`- SGM` and `- equilibrium` are the same runs, without any equilibrium.",
        "The paper's `- PGF` has no row of ours, since it does not say what takes the place of the fusion; "
        "other fusions (`+`) are what can.",
    ]
    if found.subject.text == "frozen":
        notes.append(
            "`- entropy weights`: all modalities weigh the same (eq. 11). `- dual phase`: balancing acts from the "
            "first epoch."
        )
    else:
        notes.append("Minutes a run: other parts and fusions are left out; with frozen text they are there.")
    return Part(f"Table 3: ablations on {found.subject.name}", grids, notes=notes)
