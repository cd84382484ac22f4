"""Methods by name: a model, alone or with a balancing method. A configuration has one name in every table and sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pase_msa import plugins
from pase_msa.data.context import without_context
from pase_msa.errors import PaSEError
from pase_msa.ranges import nearest, one_of
from pase_msa.studies.ridge_baseline import RIDGE
from pase_msa.studies.study import merge

Options = dict[str, Any]

PASE = "PaSE"  # balanced by held-out contributions, the default
PAPER = "PaSE paper"  # balanced by SGM as in the paper, eq. 19 to 21
NO_SGM = "PaSE paper - SGM"

_PAPER: Options = {"model": {"name": "pase"}, "balancing": {"name": "sgm"}}
_PASE: Options = {"model": {"name": "pase"}, "balancing": {"name": "held_out"}}
_NAMED: dict[str, Options] = {PASE: _PASE, PAPER: _PAPER, NO_SGM: merge(_PAPER, {"phases": {"start": "never"}})}
#: balancing plug-ins that are a part of PaSE, or balance nothing
_NOT_BASELINES = ("none", "held_out", "sgm")
_ALONE = " alone"


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


def balanced(name: str) -> dict[str, Options]:
    """A model, "concat" or "pase", with every baseline balancing method.

    The methods act from the first step, as published.
    """
    label = {"concat": "concat", "pase": PASE}[name]
    return {f"{label} + {method}": _balanced_by(name, method) for method in _baseline_methods()}


def with_our_balancing(name: str) -> dict[str, Options]:
    """A baseline model with the balancing methods that are a part of PaSE."""
    return {f"{name} + {method}": _balanced_by(name, method) for method in ("sgm", "held_out")}


def _baseline_methods() -> list[str]:
    return [name for name in plugins.names("balancing") if name not in _NOT_BASELINES]


def _balanced_by(name: str, method: str) -> Options:
    options: Options = {"model": {"name": name}, "balancing": {"name": method}}
    if method == "held_out":
        return options
    if method == "sgm":
        options["balancing"]["utility"] = "prediction"  # eq. 18 to 21 with a utility that every model has
    return {**options, "phases": {"start": "always"}}


def every_method() -> list[str]:
    """Names of all baselines, models and balancing methods on concatenation, and of both versions of PaSE."""
    return [*baselines(), *balanced("concat"), PAPER, PASE]


def method_options(name: str) -> Options:
    """The configuration of a method: "concat", "tfn + agm", "text alone", "PaSE", "PaSE paper", "PaSE + agm".

    Errors:
        PaSEError: no method has that name, or it is ridge regression, which is not trained.
    """
    if name == RIDGE:
        raise PaSEError(
            "The method 'ridge' is solved in closed form and chooses its penalty itself, so there is nothing to "
            "search; leave it out."
        )
    if name in _NAMED:
        return named(name)
    if name.endswith(_ALONE):
        return model("concat", [name.removesuffix(_ALONE)])
    whole, plus, method = name.partition(" + ")
    if whole == "pase":
        raise PaSEError(
            f"The model 'pase' has two versions, {PASE!r} and {PAPER!r}, found {name!r}; name one of these."
        )
    if whole not in (PASE, *baselines()) and ":" not in whole:
        names = [PASE, PAPER, *baselines()]
        raise PaSEError(
            f"There is no method {name!r}; methods are {', '.join(names)}, and models with a balancing method, such as "
            f"'concat + agm'; {nearest(name, names, 'name one of these.')}"
        )
    if not plus:
        return model(name)
    others = _baseline_methods() if whole == PASE else [m for m in plugins.names("balancing") if m != "none"]
    return _balanced_by("pase" if whole == PASE else whole, one_of(method, others, f"The balancing of {name!r}"))
