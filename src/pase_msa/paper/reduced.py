"""Reduced versions of published systems: how their rows are called, so that nobody takes them for the whole system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from pase_msa import plugins

NOTE = (
    "A row marked as reduced is a version without an essential part of the published system. Its scores say nothing "
    "about the whole system, whose quoted row is marked as such."
)


@lru_cache(maxsize=512)  # asked for every row of every table
def reduction(variant: str) -> str:
    """What separates a method of the tables from the published system of its name; empty where nothing essential does.

    Args:
        variant: a model, "semi_iin", or a model with a balancing method, "concat + lfm".
    """
    kind, name = ("balancing", variant.rpartition(" + ")[2]) if " + " in variant else ("models", variant)
    return plugins.reduced(kind, name) if name in plugins.names(kind) else ""


def row_name(variant: str, name: str) -> str:
    """The name of a method's row, with what makes it a reduced version."""
    words = reduction(variant)
    return f"{name} (reduced: {words})" if words else name


def quoted_name(method: str) -> str:
    """The name of a published method's row, with a mark where only a reduced version of it can be measured here."""
    whole = " (the whole system)" if _letters(method) in _reduced_models() else ""
    return f"quoted: {method}{whole}"


def notes(variants: Sequence[str]) -> list[str]:
    """The sentence about reduced versions, where some of the methods are."""
    return [NOTE] if any(map(reduction, variants)) else []


@lru_cache(maxsize=1)
def _reduced_models() -> frozenset[str]:
    return frozenset(_letters(name) for name in plugins.names("models") if plugins.reduced("models", name))


def _letters(name: str) -> str:
    """A name without what publications and files write differently: "Semi-IIN" and "semi_iin" are "semiiin"."""
    return re.sub(r"[\W_]", "", name.lower())
