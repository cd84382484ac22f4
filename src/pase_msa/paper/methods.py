"""Methods by their names in the tables: a configuration has one name everywhere, so that its runs are shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pase_msa import plugins
from pase_msa.data.context import without_context
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.studies.study import merge

PASE = "PaSE"  # balanced by held-out contributions, the default
PAPER = "PaSE paper"  # balanced by SGM as in the paper, eq. 19 to 21
NO_SGM = "PaSE paper - SGM"

_PAPER: Options = {"model": {"name": "pase"}, "balancing": {"name": "sgm"}}
_PASE: Options = {"model": {"name": "pase"}, "balancing": {"name": "held_out"}}
_NAMED: dict[str, Options] = {PASE: _PASE, PAPER: _PAPER, NO_SGM: merge(_PAPER, {"phases": {"start": "never"}})}
#: options of every run that the ridge baseline has
_READ_BY_RIDGE = ("label", "modalities", "context", "context_of")
#: balancing plug-ins that are a part of PaSE, or balance nothing
_NOT_BASELINES = ("none", "held_out", "sgm")

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
    },
}


def named(name: str, **changes: Any) -> Options:
    """The configuration of PaSE in one of its versions (`PASE`, `PAPER`, `NO_SGM`), with changes merged into it."""
    return merge(_NAMED[name], changes)


def both_versions() -> dict[str, Options]:
    """PaSE balanced as in the paper, and PaSE balanced by held-out contributions."""
    return {name: named(name) for name in (PAPER, PASE)}


def model(name: str, modalities: Sequence[str] | None = None) -> Options:
    """The configuration of a model as it is, without balancing; on all modalities if none are named."""
    options: Options = {"model": {"name": name}, "balancing": {"name": "none"}}
    return options if modalities is None else {**options, **on(modalities)}


def on(modalities: Sequence[str]) -> Options:
    """The options that train a method on some modalities; with a context only where that is one of them."""
    return {"modalities": list(modalities), **without_context(modalities)}


def baselines() -> list[str]:
    """Names of the baseline models among the plug-ins."""
    return [name for name in plugins.names("models") if name != "pase"]


def single_modalities(protocol: Protocol) -> dict[str, Options]:
    """Each modality alone, with the same encoder and head; empty where the data have only one."""
    names = protocol.modalities
    return {} if len(names) < 2 else {f"{name} alone": model("concat", [name]) for name in names}


def ridges(protocol: Protocol) -> dict[str, Options]:
    """Ridge regression, which is solved and not trained; empty for a classification."""
    if protocol.task.kind != "regression":
        return {}
    return {"ridge": {"model": {"name": "ridge"}}}


def balanced(name: str) -> dict[str, Options]:
    """A model, "concat" or "pase", with every baseline balancing method.

    The methods act from the first step, as published.
    """
    label = {"concat": "concat", "pase": PASE}[name]
    return {
        f"{label} + {method}": {
            "model": {"name": name},
            "balancing": {"name": method},
            "phases": {"start": "always"},
        }
        for method in plugins.names("balancing")
        if method not in _NOT_BASELINES
    }


def completed(protocol: Protocol, options: Options) -> Options:
    """A method's options together with those of every run under the protocol; the method's own come last."""
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
    return merge(merge(base, protocol.base), options)
