"""The methods of a sweep's YAML file: the base and the space of each, checked before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.ranges import nearest
from pase_msa.studies.methods import every_method, method_options
from pase_msa.studies.ridge_baseline import RIDGE
from pase_msa.studies.space import Sweep, check_space
from pase_msa.studies.study import merge, slug
from pase_msa.training.config import RunConfig

_ALL = "all"
# methods that differ in these cannot be compared
_COMMON = ("data", "out", "seed", "label", "kind", "num_classes", "split", "convention", "training.monitor")
_NAMES = ("model.name", "balancing.name")  # a method is named after these


def searches(sweep: Sweep) -> dict[str, Sweep]:
    """The search of each method: the common base and space, those of the method, and its own of the file over them.

    Args:
        sweep: with `methods`, a list of names or a mapping of a name to `base` and `space`; see `method_options` for
            the names. "all" stands for every baseline and both versions of PaSE. A name of another kind is a method too
            where its base names a model.

    Errors:
        PaSEError: an unknown method, one that is not trained, or an option that a method does not have.
    """
    found: dict[str, Sweep] = {}
    for name, own in _entries(sweep.methods).items():
        if unknown := sorted(set(own) - {"base", "space"}):
            raise PaSEError(f"The method {name!r} has {unknown[0]!r}; it may have base and space of its own.")
        base, space = own.get("base") or {}, own.get("space") or {}
        if not isinstance(base, dict) or not isinstance(space, dict):
            raise PaSEError(f"The method {name!r} has a base or a space that is no mapping; give options by name.")
        check_space(space)
        found[name] = replace(sweep, base=_base(name, sweep.base, base), space={**sweep.space, **space}, methods=None)
        _check(name, found[name])
    slugs: dict[str, str] = {}
    for name in found:
        if slugs.setdefault(slug(name).lower(), name) != name:
            raise PaSEError(f"The methods {slugs[slug(name).lower()]!r} and {name!r} would share a folder; rename one.")
    return found


def _entries(methods: Any) -> dict[str, dict[str, Any]]:
    """What the file says of each method, "all" replaced by the methods that it does not name."""
    if isinstance(methods, str):
        methods = [methods]
    if not methods or not isinstance(methods, list | dict) or not all(isinstance(name, str) for name in methods):
        raise PaSEError("The methods of a sweep are a list of names, or a mapping of names to base and space.")
    given = methods if isinstance(methods, dict) else dict.fromkeys(methods)
    entries: dict[str, dict[str, Any]] = {}
    for name, own in given.items():
        if own is not None and not isinstance(own, dict):
            raise PaSEError(f"The method {name!r} is given {own!r}; it may have base and space of its own.")
        for each in every_method() if name == _ALL else [name]:
            if name != _ALL or each not in given:
                entries[each] = own or {}
    return entries


def _base(name: str, common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method's runs."""
    for option in _COMMON:
        if value_at(own, option) is not None:
            raise PaSEError(f"The method {name!r} has its own {option}, which makes methods incomparable; see base.")
    model = value_at(own, "model.name")
    try:
        standard = method_options(name)
    except PaSEError:
        if model is None or name == RIDGE:
            raise
        standard = {}
    for option in _NAMES:
        asked, meant = value_at(own, option), value_at(standard, option)
        if None not in (asked, meant) and asked != meant:
            raise PaSEError(f"The method {name!r} has {option} {meant}, found {asked!r}; give it another name.")
    if model == RIDGE:
        method_options(RIDGE)  # which says why not
    return merge(merge(common, standard), own)


def _check(name: str, plan: Sweep) -> None:
    """Refuse options that a method does not have, before anything is trained."""
    if not plan.space:
        raise PaSEError(f"Nothing is to be searched for the method {name!r}; give it a space, or all of them one.")
    try:
        whole = complete(plan.base, plan.space)
    except PaSEError as error:
        raise PaSEError(f"The method {name!r} cannot be run with its base: {error}") from error
    for option in plan.space:
        if option in _NAMES or option in _COMMON:
            raise PaSEError(f"The space of {name!r} has {option}, which makes methods incomparable; take it out.")
        place: Any = whole
        for part in option.split("."):
            if not isinstance(place, Mapping) or part not in place:
                names = sorted(place) if isinstance(place, Mapping) else []
                there = f"there are {', '.join(names)}; " if names else ""
                hint = nearest(part, names, "take it out of the common space, or give it to methods that have it.")
                raise PaSEError(f"The method {name!r} has no option {option!r}; {there}{hint}")
            place = place[part]


def value_at(options: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted option, or None."""
    value: Any = options
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def complete(options: Mapping[str, Any], space: Iterable[str] = ()) -> dict[str, Any]:
    """All options of a run, defaults included: of the model, of the balancing method, of the encoders that are named.

    Args:
        options: those that are given.
        space: further options, of which those of encoders are included too.

    Errors:
        PaSEError: an option that there is not, or a value that does not fit.
    """
    config = RunConfig.from_options(options)
    whole = config.to_dict()
    module = plugins.load("models", str(config.model.get("name", "pase")))
    balancing = str(config.balancing.get("name") or getattr(module, "BALANCING", "none"))
    whole["model"] = {**_filled(module, config.model, "model"), "name": config.model.get("name", "pase")}
    loaded = plugins.load("balancing", balancing)
    whole["balancing"] = {**_filled(loaded, config.balancing, "balancing"), "name": balancing}
    searched = {option.split(".")[1] for option in space if option.startswith("encoders.")}
    for modality in {*config.encoders, *searched}:
        given = config.encoders.get(modality, config.encoders.get("default", {}))
        fine_tuned = modality == "text" and not config.text.frozen
        encoder = "language_model" if fine_tuned else str(given.get("encoder", "sequence"))
        filled = _filled(plugins.load("encoders", encoder), given, f"encoder of {modality}")
        whole["encoders"][modality] = {**filled, "encoder": encoder}
    return whole


def _filled(module: Any, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    rest = {key: value for key, value in given.items() if key not in ("name", "encoder")}
    return dataclasses.asdict(plugins.configure(module.Config, rest, f"The {what} {given.get('name', '')}".strip()))
