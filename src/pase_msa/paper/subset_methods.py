"""Methods trained on some of the modalities only: Table 4 and Figure 1 share these runs."""

from __future__ import annotations

from itertools import combinations

from pase_msa.paper import methods
from pase_msa.paper.protocol import Options, Protocol

LETTERS = {"text": "T", "audio": "A", "vision": "V"}
"""How the paper abbreviates modalities, in its order."""


def letters(modalities: str) -> str:
    """Modalities as the paper abbreviates them: "T+A" for "text+audio". Other modalities keep their names."""
    names = modalities.split("+")
    order = [*LETTERS, *names]
    return "+".join(LETTERS.get(name, name) for name in sorted(names, key=order.index))


def all_subsets(protocol: Protocol) -> list[tuple[str, ...]]:
    """All non-empty sets of modalities, small ones first."""
    names = protocol.modalities
    return [subset for size in range(1, len(names) + 1) for subset in combinations(names, size)]


def name_of(method: str, subset: tuple[str, ...], protocol: Protocol) -> str:
    """Name of a method that is trained on a set of modalities; on all of them it is the method's own name."""
    if subset == protocol.modalities:
        return method
    if method == "concat" and len(subset) == 1:
        return f"{subset[0]} alone"
    return f"{method} on {'+'.join(subset)}"


def trained_on(method: str, subset: tuple[str, ...], protocol: Protocol) -> Options:
    """Configuration of a method on a set of modalities; on all of them it is that of the other tables."""
    options = methods.named(method) if method.startswith(methods.PASE) else methods.model(method)
    return options if subset == protocol.modalities else {**options, **methods.on(subset)}
