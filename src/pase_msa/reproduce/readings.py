"""Beyond the paper: what each literal reading of an equation costs or gains, one at a time and all at once."""

from __future__ import annotations

from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Part
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import comparison_grid, reading, score_grid
from pase_msa.reproduce.subject import Options, Subject
from pase_msa.studies.study import merge

# what is literal in the paper, by equation; eq. 6 and 19 have a second reading instead
_CHANGES: dict[str, Options] = {
    "eq. 6 source marginals": {"model": {"marginals": "source"}},
    "eq. 9 gradient of the moving average": {"model": {"prototype_gradient": "ema", "alignment_weight": 1.0}},
    "eq. 10 as printed": {"model": {"entropy_sign": "literal"}},
    "eq. 12 prototype of the label": {"model": {"gate_prototype": "label"}},
    "eq. 12 nearest prototype": {"model": {"gate_prototype": "hard"}},
    "eq. 19 utility of predictions": {"balancing": {"name": "sgm", "utility": "prediction"}},
    "eq. 21 on the gradient": {"balancing": {"name": "sgm", "apply_to": "gradient"}},
}
_LITERAL = (
    "eq. 9 gradient of the moving average",
    "eq. 10 as printed",
    "eq. 12 prototype of the label",
    "eq. 21 on the gradient",
)


def variants(subject: Subject) -> dict[str, Options]:
    """PaSE with the paper's equilibrium, one reading changed at a time; and every literal one at once."""
    found = {methods.PAPER: methods.named(methods.PAPER)}
    found |= {f"{methods.PAPER}, {name}": methods.named(methods.PAPER, **change) for name, change in _CHANGES.items()}
    literal: Options = {}
    for name in _LITERAL:
        literal = merge(literal, _CHANGES[name])
    return {**found, f"{methods.PAPER}, all literal": methods.named(methods.PAPER, **literal)}


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    order, ours = found.variants, methods.PAPER
    names = {name: name.removeprefix(f"{ours}, ") for name in order} | {ours: "default readings"}
    grids = [score_grid(found, "readings", "Readings of the equations", order, names=names)]
    others = [name for name in order if name != ours]
    grid = comparison_grid(
        found, "readings-differences", "The default readings less each of these", ours, others, names=names
    )
    return Part(
        f"Readings of the equations on {found.subject.name}",
        [*grids, *([] if grid is None else [grid])],
        notes=[
            *reading(found)[:3],
            "`all literal` has eq. 9, 10, 12 (label) and 21 as printed. The rest is as in the default.",
        ],
    )
