"""A sweep's YAML file: the options of every run, and the space of those that are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import Trial

from pase_msa.errors import PaSEError
from pase_msa.studies.study import merge, read_mapping

_FIXED = ("data", "out", "training.monitor")  # trials that differ in these cannot be compared


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep's YAML file.

    Attributes:
        name: of the file, without its suffix.
        base: options of a run.
        space: by dotted option, {"low", "high", and "log" or "step"} or {"choices"}.
        data: folder or file; None is the synthetic benchmark.
        methods: names, or by name a mapping with base and space; None is one search of the base. See `method_sweep`.
    """

    name: str
    base: dict[str, Any]
    space: dict[str, dict[str, Any]]
    data: str | None = None
    methods: Any = None


def read_sweep(file: str | Path) -> Sweep:
    """Read `base`, `space` and optionally `data` and `methods`.

    Errors:
        PaSEError: there is no such file, or it holds anything else.
    """
    path = Path(file)
    content = read_mapping(path)
    if unknown := sorted(set(content) - {"base", "space", "data", "methods"}):
        raise PaSEError(f"{path} has {unknown[0]!r}; a sweep has base, space, data and methods.")
    space, methods = content.get("space"), content.get("methods")
    if isinstance(methods, dict) and space is None:
        space = {}  # every method may have a space of its own
    elif not isinstance(space, dict) or not space:
        raise PaSEError(f"{path} is no sweep: it wants `space`, a mapping of options to what they may be.")
    check_space(space)
    if "methods" in content and not (methods and isinstance(methods, str | list | dict)):
        raise PaSEError(f"{path} has no method under `methods`; name some, or `all`, or leave it out.")
    base = content.get("base") or {}
    if not isinstance(base, dict):
        raise PaSEError(f"{path} has a base of type {type(base).__name__}; it is a mapping of options of a run.")
    return Sweep(path.stem, base, space, content.get("data"), methods)


def check_space(space: Mapping[Any, Any]) -> None:
    """Refuse a space that cannot be searched.

    Errors:
        PaSEError: an entry that is no range and no choices, or an option that makes trials incomparable.
    """
    for name, entry in space.items():
        _check(str(name), entry)


def _check(name: str, entry: Any) -> None:
    if name in _FIXED:
        raise PaSEError(f"The space names {name!r}, which makes trials incomparable; put it into base.")
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys == {"choices"} and isinstance(entry["choices"], list) and entry["choices"]:
        return
    numbers = [entry[key] for key in ("low", "high", "step") if key in keys]
    if not {"low", "high"} <= keys <= {"low", "high", "log", "step"} or any(
        isinstance(number, bool) or not isinstance(number, int | float) for number in numbers
    ):
        raise PaSEError(f"The space gives {name} {entry!r}; give it {{low, high}}, with log or step, or {{choices}}.")
    if entry["low"] > entry["high"] or (entry.get("log") and (entry["low"] <= 0 or "step" in keys)):
        raise PaSEError(
            f"The space gives {name} {entry!r}; low is at most high, and log wants low > 0 and goes without step."
        )


def options_of(sweep: Sweep, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run: those of the base, with these values of the space."""
    options = sweep.base
    for name, value in values.items():
        change: Any = value
        for part in reversed(name.split(".")):
            change = {part: change}
        options = merge(options, change)
    return options


def suggest(trial: Trial, space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A value for every option of the space, drawn by Optuna."""
    values: dict[str, Any] = {}
    for name, entry in space.items():
        if "choices" in entry:
            # Optuna stores numbers, strings and truth values; any other choice is stored as its place in the list
            values[name] = entry["choices"][trial.suggest_categorical(name, range(len(entry["choices"])))]
        elif isinstance(entry["low"], int) and isinstance(entry["high"], int):
            values[name] = trial.suggest_int(
                name, entry["low"], entry["high"], step=entry.get("step", 1), log=entry.get("log", False)
            )
        else:
            values[name] = trial.suggest_float(
                name, entry["low"], entry["high"], step=entry.get("step"), log=entry.get("log", False)
            )
    return values


def holds(entry: Mapping[str, Any], value: Any) -> bool:
    """Whether a value is one that `suggest` may draw from an entry of a space."""
    if "choices" in entry:
        return value in entry["choices"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not entry["low"] <= value <= entry["high"]:
        return False
    whole = isinstance(entry["low"], int) and isinstance(entry["high"], int)
    step = entry.get("step", 1 if whole else None)
    if step is None:
        return True
    steps = (value - entry["low"]) / step
    return bool(abs(steps - round(steps)) < 1e-8)  # as Optuna rounds


def as_drawn(entry: Mapping[str, Any], value: Any) -> Any:
    """How Optuna stores a value of an entry: a choice as its place in the list."""
    return entry["choices"].index(value) if "choices" in entry else value
