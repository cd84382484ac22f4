"""Learning rates by modality, scaled inside the optimiser's step only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer

from pase_msa.errors import PaSEError


def owners(names: Sequence[str], parameters: Callable[[str], Iterable[Parameter]]) -> dict[int, str]:
    """The modality of each parameter, by its identity.

    Errors:
        PaSEError: a modality without parameters, or a parameter of two modalities.
    """
    owner: dict[int, str] = {}
    for name in names:
        own = list(parameters(name))
        if not own:
            raise PaSEError(f"Modality {name!r} has no parameters to modulate; mend `parameters`.")
        for parameter in own:
            if owner.setdefault(id(parameter), name) != name:
                raise PaSEError(f"A parameter belongs to both {owner[id(parameter)]!r} and {name!r}.")
    return owner


def scale_rates(optimizer: Optimizer, owner: Mapping[int, str], factors: Callable[[], Mapping[str, float]]) -> None:
    """Let every later step of an optimiser run at `factors()[modality]` times the learning rate of that modality.

    Only while a step runs does the optimiser have one group per modality, at a scaled rate. Schedulers, checkpoints and
    other code that reads the groups find the original ones.
    """
    original: list[list[dict[str, Any]]] = []

    def before(opt: Optimizer, args: Any, kwargs: Any) -> None:
        if original:  # an exception cut the last step short
            opt.param_groups = original.pop()
        current = factors()
        if any(factor != 1.0 for factor in current.values()):
            original.append(opt.param_groups)
            opt.param_groups = [
                {**part, "lr": part["lr"] * factor_of(part["params"], owner, current)}
                for group in opt.param_groups
                for part in split_group(group, owner)
            ]

    def after(opt: Optimizer, args: Any, kwargs: Any) -> None:
        if original:
            opt.param_groups = original.pop()

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def factor_of(parameters: Sequence[Parameter], owner: Mapping[int, str], factors: Mapping[str, float]) -> float:
    """The factor of a group that belongs to one modality, or to none."""
    name = owner.get(id(parameters[0])) if parameters else None
    return 1.0 if name is None else factors.get(name, 1.0)


def split_group(group: Mapping[str, Any], owner: Mapping[int, str]) -> list[dict[str, Any]]:
    """A parameter group as one group per modality (and one for the rest), each with the options of the group."""
    parts: dict[str | None, list[Parameter]] = {}
    for parameter in group["params"]:
        parts.setdefault(owner.get(id(parameter)), []).append(parameter)
    return [{**group, "params": parameters} for parameters in parts.values()]
