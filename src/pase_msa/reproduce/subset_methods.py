"""Methods trained on some of the modalities only: Table 4 and Figure 1 share these runs."""

from __future__ import annotations

from itertools import combinations

from pase_msa.reproduce import methods
from pase_msa.reproduce.subject import Options, Subject


def subsets(subject: Subject) -> list[tuple[str, ...]]:
    """All non-empty sets of modalities, small ones first."""
    names = subject.modalities
    return [some for size in range(1, len(names) + 1) for some in combinations(names, size)]


def name_of(method: str, some: tuple[str, ...], subject: Subject) -> str:
    """What a method on a set of modalities is called; on all of them it is the method itself."""
    if some == subject.modalities:
        return method
    if method == "concat" and len(some) == 1:
        return f"{some[0]} alone"
    return f"{method} on {'+'.join(some)}"


def on(method: str, some: tuple[str, ...], subject: Subject) -> Options:
    """The configuration; runs on all modalities are those of the other tables."""
    whole = methods.named(method) if method.startswith(methods.PASE) else methods.model(method)
    return whole if some == subject.modalities else {**whole, "modalities": list(some)}
