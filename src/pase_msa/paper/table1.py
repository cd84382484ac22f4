"""Table 1: PaSE and every baseline under one protocol, with what each costs, beside the published results."""

from __future__ import annotations

from pase_msa.paper import methods, reduced
from pase_msa.paper.layout import Section
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.quoted import doubt_notes
from pase_msa.paper.results import Results
from pase_msa.paper.scores import difference_table, how_to_read, metric_table


def variants(protocol: Protocol) -> dict[str, Options]:
    """Single modalities, baseline models, balancing methods on concatenation and on PaSE, both versions of PaSE."""
    ours = methods.both_versions()
    if protocol.text == "fine-tuned":  # a run takes minutes: the short list
        alone = methods.single_modalities(protocol)
        return {k: v for k, v in alone.items() if k == "text alone"} | {"concat": methods.model("concat")} | ours
    return {
        **methods.ridges(protocol),
        **methods.single_modalities(protocol),
        **{name: methods.model(name) for name in methods.baselines()},
        **methods.balanced("concat"),
        **methods.with_our_balancing("concat"),
        **methods.balanced("pase"),
        **ours,
    }


def build(results: Results) -> Section:
    """The scores of all methods, and either version of PaSE minus each of the others."""
    order = results.variants
    # PaSE with another balancing method, and baselines with ours, are compared with, but they are no baselines
    baselines = list(filter(methods.is_baseline, order))
    title = "Methods under one protocol, with what each costs, and published results"
    tables = [metric_table(results, "table1", title, order, table=1, costs=True)]
    for ours, stem in ((methods.PASE, "table1-differences"), (methods.PAPER, "table1-differences-paper")):
        others = [name for name in order if name != ours]
        if ours in order and (
            differences := difference_table(
                results, stem, f"{ours} minus each of the others", ours, others, baselines=baselines
            )
        ):
            tables.append(differences)
    notes = how_to_read(results)
    notes += [
        f"{methods.PASE} is the model balanced by held-out contributions, the default. {methods.PAPER} is the same "
        "model balanced by SGM (eq. 19 to 21). Baselines share its features, encoders (ef_lstm excepted), head, "
        "optimiser and selection.",
        "Balancing methods act from the first step. OGM-GE and AGM change the size of gradients, most of which AdamW "
        "undoes.",
        "Parameters, seconds and memory are means over seeds. Seconds depend on what else ran on the machine. Memory "
        "is the largest of the process, libraries included.",
    ]
    notes += [*reduced.notes(order), *doubt_notes(1, results.protocol.quoted)]
    return Section(f"Table 1: methods on {results.protocol.name}", tables, notes=notes)
