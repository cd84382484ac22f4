"""Shapley-based modulation (SGM), equations 18 to 21 of He et al., "PaSE"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning import LightningModule, Trainer
from torch.nn import Parameter
from torch.optim import Optimizer

from pase_msa.balancing.base import BalancingMethod, Preparation
from pase_msa.balancing.factors import modulation_factors
from pase_msa.balancing.rates import factor_of, owners, scale_rates, split_group
from pase_msa.errors import PaSEError
from pase_msa.ranges import PROPER_SHARE, SHARE, check_ranges
from pase_msa.shapley import coalitions, shapley_values

_MOST_MODALITIES = 8  # beyond this, predicting validation with every coalition each epoch costs more than it tells
ApplyTo = Literal["learning_rate", "gradient"]
Utility = Callable[[LightningModule, frozenset[str]], float]
Parameters = Callable[[LightningModule, str], Iterable[Parameter]]


@dataclass
class Config:
    """Options.

    Attributes:
        name: the plug-in.
        utility: "alignment", eq. 19 on the epoch's training batches, or "prediction": how much the coalition's fused
            prediction gains over the class prior on the validation split, in nats per utterance.
        apply_to: "learning_rate" of the modality's parameter groups, or its "gradient" (undone by Adam).
        floor: non-positive Shapley values are raised to this fraction of the largest one.
        smoothing: of the Shapley values over epochs, in [0, 1): 0 takes the newest alone.
    """

    name: str = "sgm"
    utility: Literal["alignment", "prediction"] = "alignment"
    apply_to: ApplyTo = "learning_rate"
    floor: float = 0.01
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, "balancing", floor=SHARE, smoothing=PROPER_SHARE)


class ShapleyModulation(BalancingMethod):
    """Slow down the modalities that contribute most, by their Shapley values.

    At the end of each training epoch the utility of every coalition gives Shapley values psi (eq. 18), these give
    factors phi = exp(psi_min / psi_m - 1) (eq. 20), and while the callback is `active` the next epoch's updates of
    modality m run at phi_m times their learning rate (eq. 21). Schedulers never see the scaled rate. Whatever belongs
    to no modality (the fusion head) is not modulated.

    Works on any LightningModule with automatic optimisation:

        ShapleyModulation(utility=lambda module, coalition: ..., modalities=["text", "audio"],
                          parameters=lambda module, name: module.encoders[name].parameters())

    Args:
        utility: function of module and coalition (never called for the empty one, whose utility is 0), or the name of
            one that the module offers through `coalition_utility(name, coalition)`.
        modalities: names; those of `module.modalities` if left out.
        parameters: function of module and modality; `module.modality_parameters(name)` if left out.
        apply_to: see `Config`.
        floor: see `Config`.
        smoothing: see `Config`.
        active: whether to modulate from the start; under the dual-phase rule that rule decides.

    Attributes:
        values: the newest psi by modality.
        factors: the newest phi by modality.
        history: one entry per epoch, {"epoch", "active", "psi", "phi"}.
    """

    def __init__(
        self,
        utility: Utility | str = "alignment",
        *,
        modalities: Sequence[str] | None = None,
        parameters: Parameters | None = None,
        apply_to: ApplyTo = "learning_rate",
        floor: float = 0.01,
        smoothing: float = 0.5,
        active: bool = True,
    ) -> None:
        super().__init__()
        if apply_to not in ("learning_rate", "gradient"):
            raise PaSEError(f"apply_to is 'learning_rate' or 'gradient', not {apply_to!r}.")
        if not 0 <= smoothing < 1:
            raise PaSEError(f"smoothing lies in [0, 1), found {smoothing}.")
        self.utility = utility
        self.modalities = None if modalities is None else tuple(modalities)
        self.parameters = parameters
        self.apply_to = apply_to
        self.floor = floor
        self.smoothing = smoothing
        self.active = active
        self.values: dict[str, float] = {}
        self.factors: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self._owner: dict[int, str] = {}

    def prepare(self, preparation: Preparation) -> None:
        """Ask for every coalition on validation where the utility is "prediction", the only one that needs them."""
        if self.utility == "prediction":
            modalities = preparation.task.modalities
            if len(modalities) > _MOST_MODALITIES:
                raise PaSEError(
                    f"balancing.utility 'prediction' needs every coalition and takes up to {_MOST_MODALITIES} "
                    f"modalities, found {len(modalities)}; use 'alignment'."
                )
            self.coalitions = coalitions(modalities)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Map each parameter to its modality, and scale learning rates from now on."""
        names = self.modalities or tuple(getattr(pl_module, "modalities", ()))
        if not names:
            raise PaSEError("ShapleyModulation needs the names of the modalities; pass modalities=[...].")
        self.modalities = names
        select = self.parameters or (lambda module, name: module.modality_parameters(name))  # type: ignore[operator]
        self._owner = owners(names, lambda name: select(pl_module, name))
        for optimizer in trainer.optimizers:
            if self.apply_to == "learning_rate":
                scale_rates(optimizer, self._owner, lambda: self.factors if self.active else {})

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Scale gradients, where that is asked for."""
        if self.apply_to != "gradient" or not self.active or not self.factors:
            return
        for group in optimizer.param_groups:
            for part in split_group(group, self._owner):
                factor = factor_of(part["params"], self._owner, self.factors)
                for parameter in part["params"]:
                    if factor != 1.0 and parameter.grad is not None:
                        parameter.grad.mul_(factor)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shapley values of the modalities and the factors of the next epoch, eq. 18 to 20."""
        assert self.modalities is not None
        newest = shapley_values(lambda coalition: self._value(pl_module, coalition), self.modalities)
        rate = 1 - self.smoothing if self.values else 1.0  # of the moving average
        self.values = {
            name: value if rate == 1.0 else rate * value + (1 - rate) * self.values[name]
            for name, value in newest.items()
        }
        factors = modulation_factors(self.values, floor=self.floor)
        self.factors = dict(factors)
        self.history.append(
            {
                "epoch": trainer.current_epoch,
                "active": self.active,
                "psi": dict(newest),
                "phi": dict(factors),
                "floored": list(factors.floored),
            }
        )

    def _value(self, module: LightningModule, coalition: frozenset[str]) -> float:
        if callable(self.utility):
            return float(self.utility(module, coalition))
        return float(module.coalition_utility(self.utility, coalition))  # type: ignore[operator]

    def log_values(self) -> dict[str, float]:
        """psi and phi by modality."""
        values = {f"psi/{name}": value for name, value in self.values.items()}
        return values | {f"phi/{name}": value if self.active else 1.0 for name, value in self.factors.items()}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"active": self.active, "values": self.values, "factors": self.factors, "history": self.history}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.active = bool(state_dict["active"])
        self.values = dict(state_dict["values"])
        self.factors = dict(state_dict["factors"])
        self.history = list(state_dict["history"])


def build(config: Config) -> ShapleyModulation:
    """The plug-in's entry point."""
    return ShapleyModulation(
        config.utility,
        apply_to=config.apply_to,
        floor=config.floor,
        smoothing=config.smoothing,
    )
