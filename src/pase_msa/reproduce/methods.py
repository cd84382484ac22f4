"""Methods by their names in the tables: a configuration has one name everywhere, so that its runs are shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pase_msa import plugins
from pase_msa.reproduce.subject import Options, Subject
from pase_msa.studies.study import merge

PASE = "PaSE"  # the equilibrium on held-out contributions, the default
PAPER = "PaSE paper"  # the equilibrium of the paper, eq. 19 to 21
NO_SGM = "PaSE paper - SGM"

_PAPER: Options = {"model": {"name": "pase"}, "balancing": {"name": "sgm"}}
_PASE: Options = {"model": {"name": "pase"}, "balancing": {"name": "held_out"}}
_NAMED: dict[str, Options] = {PASE: _PASE, PAPER: _PAPER, NO_SGM: merge(_PAPER, {"phases": {"start": "never"}})}
#: what is a part of PaSE or no method, among the balancing plug-ins
_NOT_RIVALS = ("none", "held_out", "sgm")

# One encoder of audio for all: small and strongly dropped, since utterance-level statistics are soon learned by heart
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
    """The configuration of one of PaSE's names, with changes."""
    return merge(_NAMED[name], changes)


def model(name: str, modalities: Sequence[str] | None = None) -> Options:
    """A rival model as it is, without balancing."""
    found: Options = {"model": {"name": name}, "balancing": {"name": "none"}}
    return found if modalities is None else {**found, "modalities": list(modalities)}


def rivals() -> list[str]:
    """Rival models found among the plug-ins."""
    return [name for name in plugins.names("models") if name != "pase"]


def single_modalities(subject: Subject) -> dict[str, Options]:
    """Each modality alone with the same encoder and head; nothing where there is one only."""
    names = subject.modalities
    return {} if len(names) < 2 else {f"{name} alone": model("concat", [name]) for name in names}


def ridges(subject: Subject) -> dict[str, Options]:
    """The floor of a regression: solved, not trained."""
    if subject.task.kind != "regression":
        return {}
    return {"ridge": {"model": {"name": "ridge"}}}


def balanced(name: str) -> dict[str, Options]:
    """A model, "concat" or "pase", under every rival balancing method; they act from the first step, as published."""
    shown = {"concat": "concat", "pase": PASE}[name]
    return {
        f"{shown} + {method}": {
            "model": {"name": name},
            "balancing": {"name": method},
            "phases": {"start": "always"},
        }
        for method in plugins.names("balancing")
        if method not in _NOT_RIVALS
    }


def completed(subject: Subject, options: Options) -> Options:
    """A method's options with those of every run under the subject's protocol."""
    base = {"training": {"threads": 1}}
    if options["model"]["name"] == "ridge":
        kept = {key: subject.base[key] for key in ("label", "modalities") if key in subject.base}
        return {**kept, **options}
    if subject.text == "fine-tuned":
        base = merge(base, _FINE_TUNED)
        if "audio" not in (options.get("modalities") or subject.modalities):
            del base["encoders"]
        if options["model"]["name"] == "pase":
            base = merge(base, {"model": {"momentum": 0.9}})
    return merge(merge(base, subject.base), options)
