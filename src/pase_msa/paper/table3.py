"""Table 3: PaSE minus one part at a time, and with other fusions."""

from __future__ import annotations

from pase_msa.errors import PaSEError
from pase_msa.paper import methods
from pase_msa.paper.layout import Section
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.results import Results
from pase_msa.paper.scores import difference_table, how_to_read, metric_table

_PARTS: dict[str, Options] = {
    "- PCL": {"model": {"calibration": False}},
    "- CAL": {"model": {"alignment": False}},
    "- entropy weights": {"model": {"entropy_sign": "uniform"}},
    "- imputation": {"model": {"imputation": False}},
    "+ Sum": {"model": {"fusion": "sum"}},
    "+ Con": {"model": {"fusion": "concat"}},
    "+ Att": {"model": {"fusion": "attention"}},
}
_SHORT = ("- PCL", "- CAL", "+ Con")  # what the paper names as parts of the method, beside balancing
_EARLY = f"{methods.PAPER} - dual phase"


def _parts(protocol: Protocol) -> dict[str, Options]:
    if protocol.text == "fine-tuned":  # a run takes minutes: the short list
        return {part: _PARTS[part] for part in _SHORT}
    return _PARTS


def variants(protocol: Protocol) -> dict[str, Options]:
    """Either version of PaSE with one part switched off or exchanged; PaSE without balancing ends both lists."""
    runs: dict[str, Options] = {}
    for whole in (methods.PAPER, methods.PASE):
        runs[whole] = methods.named(whole)
        runs |= {f"{whole} {part}": methods.named(whole, **change) for part, change in _parts(protocol).items()}
    runs[methods.NO_SGM] = methods.named(methods.NO_SGM)
    if protocol.text == "frozen":
        # without a warm-up: balancing acts from the first epoch
        runs[_EARLY] = methods.named(methods.PAPER, phases={"start": "always"})
    return runs


def build(results: Results) -> Section:
    """The scores of either version of PaSE with its changes, and the whole method minus each of them.

    Errors:
        PaSEError: no run is finished.
    """
    tables = []
    for whole, stem, more in (
        (methods.PAPER, "table3", {_EARLY: "- dual phase", methods.NO_SGM: "- SGM"}),
        (methods.PASE, "table3-held-out", {methods.NO_SGM: "- balancing"}),
    ):
        names = {whole: whole, **{f"{whole} {part}": part for part in _parts(results.protocol)}, **more}
        order = [name for name in names if name in results.variants]
        if not order:
            continue  # none of this version is finished
        title = f"{whole} minus one part at a time, and with other fusions"
        # the published ablation is of the paper's version
        table = 3 if whole == methods.PAPER else None
        tables.append(metric_table(results, stem, title, order, table=table, names=names))
        differences = difference_table(
            results, f"{stem}-differences", f"{whole} minus each of these", whole, order[1:], names=names
        )
        tables += [] if differences is None else [differences]
    if not tables:
        raise PaSEError("No run of table3 is finished, so it cannot be made; train its variants first.")
    notes = how_to_read(results)
    notes += [
        "What a part is worth is the whole method minus the row without the part. It is positive where the part helps "
        "an accuracy, negative where it helps MAE.",
        "`- SGM` and `- balancing` are the same runs, without any balancing.",
        "The paper's `- PGF` has no measured row, since it does not say what takes the place of the fusion. "
        "The rows with other fusions (`+`) say what can.",
    ]
    if results.protocol.text == "frozen":
        notes.append(
            "`- entropy weights`: all modalities have the same weight (eq. 11). `- dual phase`: balancing acts from "
            "the first epoch."
        )
    else:
        notes.append("With fine-tuned text, other parts and fusions are left out; the table with frozen text has them.")
    return Section(f"Table 3: ablations on {results.protocol.name}", tables, notes=notes)
