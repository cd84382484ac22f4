"""Methods by their names in the tables: a configuration has one name everywhere, so that its runs are shared."""

from __future__ import annotations

from pase_msa.paper.protocol import Options, Protocol
from pase_msa.studies.methods import (
    NO_SGM,
    PAPER,
    PASE,
    balanced,
    baselines,
    both_versions,
    model,
    named,
    on,
    with_our_balancing,
)
from pase_msa.studies.study import merge

__all__ = [
    "NO_SGM",
    "PAPER",
    "PASE",
    "balanced",
    "baselines",
    "both_versions",
    "completed",
    "model",
    "named",
    "on",
    "ridges",
    "single_modalities",
    "with_our_balancing",
]

#: options of every run that the ridge baseline has
_READ_BY_RIDGE = ("label", "modalities", "context", "context_of")

# One audio encoder for every method: small, with strong dropout, since utterance-level statistics are soon memorised
_FINE_TUNED: Options = {
    "text": {"model": "minilm", "frozen": False, "learning_rate": 1.0e-4},
    "encoders": {"audio": {"hidden": 8, "dropout": 0.85}},
    "model": {"width": 64, "dropout": 0.2},
    "training": {
        "epochs": 8,
        "patience": 8,
        "batch_size": 32,
        "learning_rate": 1.0e-3,
        "schedule": "linear",
        "warmup": 0.1,
        "modality_dropout": 0.0,
        "precision": "32-true",
    },
}


def single_modalities(protocol: Protocol) -> dict[str, Options]:
    """Each modality alone, with the same encoder and head; empty where the data have only one."""
    names = protocol.modalities
    return {} if len(names) < 2 else {f"{name} alone": model("concat", [name]) for name in names}


def ridges(protocol: Protocol) -> dict[str, Options]:
    """Ridge regression, which is solved and not trained; empty for a classification."""
    if protocol.task.kind != "regression":
        return {}
    return {"ridge": {"model": {"name": "ridge"}}}


def is_baseline(name: str) -> bool:
    """Whether a method of the tables has nothing of PaSE, neither the model nor the way in which it is balanced."""
    return not name.startswith(PASE) and not name.endswith((" + held_out", " + sgm"))


def completed(protocol: Protocol, options: Options, name: str | None = None) -> Options:
    """A method's options together with those of every run under the protocol; the method's own come last.

    Args:
        protocol: with the options of every run, and those that were chosen for some methods.
        options: standard ones of the method.
        name: of the method in the tables; without one, what was chosen for it is not looked up.
    """
    base: Options = {"training": {"threads": 1}}
    if options["model"]["name"] == "ridge":
        # solved in closed form: of the options of training it takes none
        selected = {key: protocol.base[key] for key in _READ_BY_RIDGE if key in protocol.base}
        return {**selected, **options}
    if protocol.text == "fine-tuned":
        base = merge(base, _FINE_TUNED)
        if "audio" not in (options.get("modalities") or protocol.modalities):
            del base["encoders"]
        if options["model"]["name"] == "pase":
            base = merge(base, {"model": {"momentum": 0.9}})
    base = merge(base, protocol.base)
    if name is None or protocol.tuned is None:
        return merge(base, options)
    return protocol.tuned.completed(name, base, options)
