"""Plug-ins by name: the name is the file's name, "package.module:attribute" reaches code elsewhere.

A plug-in of kind "models" named "x" is the module `pase_msa.models.x`; nothing registers it.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeVar

from pase_msa.errors import PaSEError

C = TypeVar("C")


def names(kind: str) -> list[str]:
    """Names of the plug-ins of a kind ("models", "fusion", ...) found on disk."""
    package = importlib.import_module(f"pase_msa.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if _is_plugin(importlib.import_module(f"pase_msa.{kind}.{name}")))


def _is_plugin(module: ModuleType) -> bool:
    """A plug-in is known by its entry point: `build`, or `read` for a format."""
    return hasattr(module, "build") or hasattr(module, "read")


def load(kind: str, name: str) -> Any:
    """The module of the plug-in, or the attribute that "package.module:attribute" names.

    Errors:
        PaSEError: nothing has that name; the sentence lists the names and the nearest one.
    """
    if ":" in name:
        module_name, attribute = name.split(":", 1)
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise PaSEError(
                f"{name!r} was to be a plug-in of kind {kind!r}, but it cannot be imported: {error}."
            ) from error
    available = names(kind)
    if name not in available:
        near = difflib.get_close_matches(name, available, 1)
        hint = f"did you mean {near[0]!r}?" if near else 'or use "package.module:attribute".'
        raise PaSEError(f"No plug-in {name!r} in {kind}; there are {', '.join(available)}; {hint}")
    module: ModuleType = importlib.import_module(f"pase_msa.{kind}.{name}")
    return module


def configure(config: type[C], options: Mapping[str, Any], what: str) -> C:
    """An instance of the dataclass `config` from plain options.

    Errors:
        PaSEError: an option has no such name, or a value of the wrong type; the sentence says which are allowed.
    """
    import jsonargparse

    fields = {f.name for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    if unknown := sorted(set(options) - fields):
        near = difflib.get_close_matches(unknown[0], fields, 1)
        hint = f"did you mean {near[0]!r}?" if near else "leave it out."
        raise PaSEError(f"{what} has no option {unknown[0]!r}; it has {', '.join(sorted(fields))}; {hint}")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(config, "options")
    try:
        parsed = parser.parse_object({"options": dict(options)})
        return parser.instantiate(parsed).options  # type: ignore[no-any-return]
    except jsonargparse.ArgumentError as error:
        raise PaSEError(f"{what} was given an option of the wrong type: {' '.join(str(error).split())}") from error
