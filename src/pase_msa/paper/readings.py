"""Further than the paper: what each literal reading of an equation costs or gains, one at a time and all at once."""

from __future__ import annotations

from pase_msa.paper import methods
from pase_msa.paper.layout import Section
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.results import Results
from pase_msa.paper.scores import difference_table, how_to_read, metric_table
from pase_msa.studies.study import merge

# the equations as they are printed; for eq. 6 and 19 it is a second reading of the text instead
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


def variants(protocol: Protocol) -> dict[str, Options]:
    """PaSE balanced as in the paper, with one reading changed at a time, and with all literal ones at once."""
    changed = {name: methods.named(methods.PAPER, **change) for name, change in _CHANGES.items()}
    literal: Options = {}
    for name in _LITERAL:
        literal = merge(literal, _CHANGES[name])
    changed["all literal"] = methods.named(methods.PAPER, **literal)
    default = {methods.PAPER: methods.named(methods.PAPER)}
    return default | {f"{methods.PAPER}, {name}": options for name, options in changed.items()}


def build(results: Results) -> Section:
    """The table of readings, and the default reading minus each of them."""
    order, ours = results.variants, methods.PAPER
    names = {name: name.removeprefix(f"{ours}, ") for name in order} | {ours: "default readings"}
    tables = [metric_table(results, "readings", "Readings of the equations", order, names=names)]
    others = [name for name in order if name != ours]
    differences = difference_table(
        results, "readings-differences", "The default readings minus each of these", ours, others, names=names
    )
    return Section(
        f"Readings of the equations on {results.protocol.name}",
        [*tables, *([] if differences is None else [differences])],
        notes=[
            *how_to_read(results)[:3],
            "`all literal` has eq. 9, 10, 12 (label) and 21 as printed. All else is as in the default.",
        ],
    )
