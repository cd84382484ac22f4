"""The dual-phase rule: when balancing begins, and when it is switched off again because it does harm."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from pase_msa.balancing.base import BalancingMethod
from pase_msa.training.config import PhaseConfig

_log = logging.getLogger(__name__)
Phase = Literal["warm-up", "balancing", "guarded"]


class TransitionRule:
    """The rule as a state machine: call `step` once per epoch.

    Args:
        config: the rule.
        mode: whether a small or a large value of the metric is good.

    Attributes:
        phase: "warm-up" (phase 1), "balancing" (phase 2), or "guarded": balancing did harm and stays off.
    """

    def __init__(self, config: PhaseConfig, mode: Literal["min", "max"]) -> None:
        self.config = config
        self.sign = 1.0 if mode == "max" else -1.0
        self.phase: Phase = "balancing" if config.start == "always" else "warm-up"
        self.epochs = self.stable = self.harmful = 0
        self.entropy: float | None = None
        self.reference: float | None = None

    def step(self, entropy: float, metric: float) -> Phase:
        """The phase of the next epoch, from the validation entropy and metric of this one."""
        self.epochs += 1
        if self.phase == "balancing":
            self._watch(metric)
            return self.phase
        value = self.sign * metric
        self.reference = value if self.reference is None else max(self.reference, value)
        if self.entropy is not None:
            change = abs(entropy - self.entropy) / max(abs(self.entropy), 1e-12)
            self.stable = self.stable + 1 if change < self.config.tolerance else 0
        self.entropy = entropy
        steady = self.stable >= self.config.patience and self.epochs >= self.config.min_epochs
        if self.phase == "warm-up" and self.config.start == "entropy" and steady:
            self.phase = "balancing"
        return self.phase

    def _watch(self, metric: float) -> None:
        value = self.sign * metric
        if self.reference is None:  # balancing from the first epoch on: there is no warm-up to compare with
            self.reference = value
        fall = (self.reference - value) / max(abs(self.reference), 1e-12)
        self.harmful = self.harmful + 1 if fall > self.config.guard else 0
        if self.harmful >= self.config.guard_patience:
            self.phase = "guarded"


class DualPhase(Callback):
    """Switches the balancing methods among the trainer's callbacks on and off by the rule.

    Args:
        config: the rule.
        metric: name of the logged validation metric that the guard watches.
        mode: whether a small or a large value is good.

    Attributes:
        switched_at: epoch at whose end balancing was switched on, or None.
        guarded_at: epoch at whose end it was switched off again, or None.
    """

    def __init__(self, config: PhaseConfig, metric: str, mode: Literal["min", "max"]) -> None:
        super().__init__()
        self.rule = TransitionRule(config, mode)
        self.metric = metric
        self.switched_at: int | None = None
        self.guarded_at: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Switch the balancing method on or off, by the phase that the run begins or resumes in."""
        self._set(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take one step of the rule, and say where the phase changes."""
        values = trainer.callback_metrics
        if "val/entropy" not in values or self.metric not in values:
            return
        before = self.rule.phase
        after = self.rule.step(float(values["val/entropy"]), float(values[self.metric]))
        if before != after and after == "balancing":
            self.switched_at = trainer.current_epoch
            _log.info("epoch %d: the validation entropy is stable; balancing on", trainer.current_epoch)
        if before != after and after == "guarded":
            self.guarded_at = trainer.current_epoch
            _log.warning(
                "epoch %d: %s got worse by more than %g for %d epochs; balancing off again",
                trainer.current_epoch,
                self.metric,
                self.rule.config.guard,
                self.rule.config.guard_patience,
            )
        self._set(trainer)

    def _set(self, trainer: Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, BalancingMethod):
                callback.active = self.rule.phase == "balancing"

    def state_dict(self) -> dict[str, Any]:
        """The state of the checkpoint."""
        rule = {k: v for k, v in vars(self.rule).items() if k not in ("config", "sign")}
        return {"rule": rule, "switched_at": self.switched_at, "guarded_at": self.guarded_at}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the state of a checkpoint."""
        vars(self.rule).update(state_dict["rule"])
        self.switched_at, self.guarded_at = state_dict["switched_at"], state_dict["guarded_at"]
