"""Beyond the paper: are the contributions found those that were planted in the synthetic benchmark?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import SyntheticSpec
from pase_msa.data.table import ARROW
from pase_msa.errors import PaSEError
from pase_msa.evaluation.statistics import estimate
from pase_msa.figures import planted
from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Grid, Part, Picture
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import plain
from pase_msa.reproduce.subject import Options, Subject
from pase_msa.studies.cells import stable_key


def variants(subject: Subject) -> dict[str, Options]:
    """Concatenation, and PaSE of either equilibrium.

    Errors:
        PaSEError: the data are not the synthetic benchmark, whose contributions alone are known.
    """
    if "spec" not in subject.table.meta:
        raise PaSEError(
            f"Planted contributions are known of the synthetic benchmark only, not of {subject.name}; leave --data "
            "out, or name a synthetic table."
        )
    ours = {name: methods.named(name) for name in (methods.PAPER, methods.PASE)}
    return {"concat": methods.model("concat"), **ours}


def datasets(subject: Subject, home: Path) -> list[str]:
    """The benchmark with one modality's dominance and noise varied."""
    specs = planted.grid(SyntheticSpec.from_dict(subject.table.meta["spec"]))
    return [str(_written(spec, home / "planted").resolve()) for spec in specs]


def _written(spec: SyntheticSpec, folder: Path) -> Path:
    """The table of a benchmark, drawn once."""
    name = next(iter(spec.modalities))
    part = spec.modalities[name]
    # the name says what varies, the key what all of it is
    key = stable_key(dataclasses.asdict(spec))
    path = folder / f"dominance{part.dominance:g}-noise{part.noise:g}-{key}"
    if not (path / ARROW).is_file():
        synthetic_table(spec, path=path)
    return path


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    frame = found.each_run(found.variants, lambda runs: planted.measure(runs))
    runs = frame.drop_duplicates(["method", "seed", "dominance", "noise"])
    rows, data = [], []
    for (method, dominance, level), part in runs.groupby(["method", "dominance", "noise"], sort=False):
        known = part["rho"].dropna()
        about = estimate(known) if len(known) else None
        rows.append(
            [
                str(method),
                f"{dominance:g}",
                f"{level:g}",
                "n/a" if about is None else plain(about, 1, 2),
                str(len(known)),
            ]
        )
        if about is not None:
            data.append({"method": method, "dominance": dominance, "noise": level, "measure": "rho", **vars(about)})
    for method, part in frame.groupby("method", sort=False):
        rho = planted.rank_correlation(part["found"].tolist(), part["planted"].tolist())
        rows.append([str(method), "all", "all", f"{rho:.2f}", f"{len(part)} contributions"])
        data.append({"method": method, "measure": "rho over all", "mean": rho, "count": len(part)})
    title = "Rank correlation of found and planted contributions"
    columns = ["method", "dominance", "noise", "Spearman's ρ", "runs"]
    return Part(
        f"Planted contributions on {found.subject.name}",
        [Grid("planted", title, columns, rows, pd.DataFrame(data))],
        [Picture("planted-recovery", "Contributions found against planted.", planted.draw(frame), frame)],
        [
            "A run's correlation is over its few modalities and takes few values: look at all together. Dominance "
            "leaves the planted contributions as they are, noise moves them."
        ],
    )
