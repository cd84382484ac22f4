"""Beyond the paper: can the stated confidence be believed, and are the most confident predictions the right ones?"""

from __future__ import annotations

import pandas as pd

from pase_msa.evaluation.statistics import estimate
from pase_msa.figures import calibrated, selective
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part, Picture
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import plain
from pase_msa.reproduce.subject import Options, Subject

COVERAGE = (0.5, 0.8, 1.0)


def variants(subject: Subject) -> dict[str, Options]:
    """Concatenation, and PaSE of either equilibrium."""
    ours = {name: methods.named(name) for name in (methods.PAPER, methods.PASE)}
    return {"concat": methods.model("concat"), **ours}


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    order = found.variants
    bins = found.each_run(order, lambda runs: calibrated.measure(runs))
    curve = found.each_run(order, lambda runs: selective.measure(runs))
    rows, data = [], []
    for method in order:
        line = [method]
        for name, values in _values(bins, curve, method).items():
            about = estimate(values)
            line.append(plain(about))
            data.append({"method": method, "measure": name, **vars(about)})
        rows.append([*line, str(len(found.rows(method)))])
    columns = ["method", *dict.fromkeys(entry["measure"] for entry in data), "seeds"]
    return Part(
        f"Confidence on {found.subject.name}",
        [Grid("confidence", "Calibration and selective prediction", columns, rows, pd.DataFrame(data))],
        [
            Picture("confidence-calibration", "Actual against stated confidence.", calibrated.draw(bins), bins),
            Picture("confidence-selective", "Errors among the most confident.", selective.draw(curve), curve),
        ],
        [
            "ECE: expected calibration error, before and after the temperature that was fitted on validation. AURC: "
            "area under risk against coverage, and that of a perfect ranking of the same predictions. Errors are of "
            "class or polarity."
        ],
    )


def _values(bins: pd.DataFrame, curve: pd.DataFrame, method: str) -> dict[str, pd.Series]:
    """One value a seed."""
    mine, risks = bins[bins["method"] == method], curve[curve["method"] == method]
    first = risks.groupby("seed")[["aurc", "best"]].first()
    found = {
        "ECE unscaled": mine[~mine["scaled"]].groupby("seed")["ece"].first(),
        "ECE": mine[mine["scaled"]].groupby("seed")["ece"].first(),
        "AURC": first["aurc"],
        "best possible": first["best"],
    }
    for share in COVERAGE:
        kept = risks[risks["coverage"] <= share + 1e-9]
        found[f"errors at {100 * share:.0f} % coverage"] = kept.groupby("seed")["risk"].last()
    return found
