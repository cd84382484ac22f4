"""Table 1: PaSE and every rival under one protocol, with what each costs, beside the published figures."""

from __future__ import annotations

from pase_msa.reproduce import methods
from pase_msa.reproduce.layout import Part
from pase_msa.reproduce.results import Results
from pase_msa.reproduce.scores import comparison_grid, reading, score_grid
from pase_msa.reproduce.subject import Options, Subject


def variants(subject: Subject) -> dict[str, Options]:
    """Single modalities, rival models as they are, balancing methods on concatenation and on PaSE, both equilibria."""
    ours = {methods.PAPER: methods.named(methods.PAPER), methods.PASE: methods.named(methods.PASE)}
    if subject.text == "fine-tuned":  # minutes a run: the short list
        alone = methods.single_modalities(subject)
        return {k: v for k, v in alone.items() if k == "text alone"} | {"concat": methods.model("concat")} | ours
    concat: dict[str, Options] = {
        # the method of eq. 18 to 21 with a utility that any model has
        "concat + sgm": {
            "model": {"name": "concat"},
            "balancing": {"name": "sgm", "utility": "prediction"},
            "phases": {"start": "always"},
        },
        "concat + held_out": {"model": {"name": "concat"}, "balancing": {"name": "held_out"}},
    }
    return {
        **methods.ridges(subject),
        **methods.single_modalities(subject),
        **{name: methods.model(name) for name in methods.rivals()},
        **methods.balanced("concat"),
        **concat,
        **methods.balanced("pase"),
        **ours,
    }


def build(found: Results) -> Part:
    """The plug-in's entry point."""
    order = found.variants
    # PaSE with a rival's balancing, and rivals with ours, are compared with, but they are no rivals
    rivals = [
        name for name in order if not name.startswith(methods.PASE) and not name.endswith((" + held_out", " + sgm"))
    ]
    grids = [
        score_grid(
            found,
            "table1",
            "Methods under one protocol, with what each costs, and published figures",
            order,
            table=1,
            extras=True,
        )
    ]
    for ours, stem in ((methods.PASE, "table1-differences"), (methods.PAPER, "table1-differences-paper")):
        others = [name for name in order if name != ours]
        if ours in order and (
            grid := comparison_grid(found, stem, f"{ours} less each of the others", ours, others, rivals=rivals)
        ):
            grids.append(grid)
    notes = reading(found)
    notes += [
        f"{methods.PASE} is the model with the equilibrium on held-out contributions, the default; {methods.PAPER} the "
        "same with that of eq. 19 to 21. Rivals share its features, encoders (ef_lstm excepted), head, optimiser and "
        "selection.",
        "Balancing methods act from the first step. OGM-GE and AGM change the size of gradients, most of which AdamW "
        "undoes.",
        "Parameters, seconds and memory are means over seeds; seconds depend on what else the machine did, and memory "
        "is the process's largest, libraries included.",
    ]
    return Part(f"Table 1: methods on {found.subject.name}", grids, notes=notes)
