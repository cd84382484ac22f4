"""Plug-ins by name: the name is the file's name, "package.module:attribute" reaches code elsewhere.

A plug-in of kind "models" named "x" is the module `pase_msa.models.x`; nothing registers it. A module of that folder is
a plug-in if its source defines an entry point at the top level: `build`, or `read` for a format. So plug-ins are listed
without being imported, and only the chosen one is.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import math
import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pase_msa.errors import PaSEError

C = TypeVar("C")
_ENTRY_POINTS = ("build", "read")


def names(kind: str) -> list[str]:
    """Names of the plug-ins of a kind ("models", "fusion", "data.formats", ...) found on disk; none is imported."""
    return sorted(name for name, spec in _modules(kind).items() if _is_plugin(spec))


def _modules(kind: str) -> dict[str, ModuleSpec]:
    """The modules in the folder of a kind. The folder's package is not imported either: it may load what is slow."""
    folder = Path(__file__).parent.joinpath(*kind.split("."))
    specs = ((m.name, m.module_finder.find_spec(m.name, None)) for m in pkgutil.iter_modules([str(folder)]))
    return {name: spec for name, spec in specs if spec is not None}


def _is_plugin(spec: ModuleSpec) -> bool:
    """Whether the source of a module defines an entry point."""
    get_source = getattr(spec.loader, "get_source", None)
    source = None if get_source is None else get_source(spec.name)
    return source is not None and _defines_entry_point(source)


@lru_cache(maxsize=512)  # parsing a file took longer than making the model that it holds
def _defines_entry_point(source: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name in _ENTRY_POINTS for node in ast.parse(source).body)


def check(kind: str, name: str) -> None:
    """Refuse a name that no plug-in has; "package.module:attribute" is left to `load`. Nothing is imported.

    Errors:
        PaSEError: nothing has that name; the sentence lists the names and the nearest one.
    """
    if ":" in name:
        return
    spec = _modules(kind).get(name)
    if spec is None or not _is_plugin(spec):
        available = names(kind)
        near = difflib.get_close_matches(name, available, 1)
        hint = f"did you mean {near[0]!r}?" if near else 'or use "package.module:attribute".'
        raise PaSEError(f"No plug-in {name!r} in {kind}; there are {', '.join(available)}; {hint}")


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
    check(kind, name)
    module: ModuleType = importlib.import_module(f"pase_msa.{kind}.{name}")
    return module


def reduced(kind: str, name: str) -> str:
    """What separates a plug-in from the published system whose name it has: its `REDUCED`, empty for a whole one.

    Figures of a reduced system are not those of the publication, so whoever prints them prints this beside them.
    """
    return str(getattr(load(kind, name), "REDUCED", ""))


@lru_cache(maxsize=64)
def _parser(config: type[Any]) -> Any:
    """What reads the options of a configuration; making it takes longer than reading them."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(config, "options")
    return parser


def configure(config: type[C], options: Mapping[str, Any], what: str) -> C:
    """An instance of the dataclass `config` from plain options.

    Errors:
        PaSEError: an option has no such name, or a value of the wrong type; the sentence says which are allowed.
    """
    if not options:
        return config()  # a parser takes a hundred times as long to say so
    import jsonargparse

    fields = {f.name for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    if unknown := sorted(set(options) - fields):
        near = difflib.get_close_matches(unknown[0], fields, 1)
        hint = f"did you mean {near[0]!r}?" if near else "leave it out."
        raise PaSEError(f"{what} has no option {unknown[0]!r}; it has {', '.join(sorted(fields))}; {hint}")
    parser = _parser(config)  # type: ignore[arg-type]
    try:
        parsed = parser.parse_object({"options": dict(options)})
        built: C = parser.instantiate(parsed).options
    except jsonargparse.ArgumentError as error:
        raise PaSEError(f"{what} was given an option of the wrong type: {' '.join(str(error).split())}") from error
    for field in dataclasses.fields(built):  # type: ignore[arg-type]
        value = getattr(built, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise PaSEError(f"{what} wants a finite {field.name}, found {value}; give such a one.")
    return built
