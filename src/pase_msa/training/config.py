"""The configuration of a run: every field is an option of `pase train`. Nothing here needs Lightning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pase_msa.data.problem import ProblemOptions
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.metrics import Convention


@dataclass
class TrainingConfig:
    """How the parameters are optimised, and on what hardware.

    Attributes:
        epochs: largest number of epochs.
        patience: epochs without a better validation metric before training stops.
        batch_size: utterances per training step.
        learning_rate: of everything but a fine-tuned language model, which has its own (text.learning_rate).
        weight_decay: of the optimizer "adamw"; the others have none.
        optimizer: "adamw", "adam" or "sgd" (momentum 0.9).
        schedule: of the learning rate after the warm-up: "constant", "linear" to zero, or "cosine" to zero.
        warmup: share of all steps over which the learning rate rises.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        modality_dropout: probability that a modality of a training utterance is masked (never all of them).
        monitor: validation metric that selects the epoch; "auto" is mae for scores and f1_weighted for classes.
        group_by_length: whether a batch holds utterances of similar length; None is yes where a language model is
            fine-tuned.
        threads: torch threads; None is one, which is fastest for small networks, or torch's own choice where a language
            model is fine-tuned.
        workers: processes that load batches.
        accelerator: of Lightning: "auto", "cpu", "gpu", ...
        devices: of Lightning: "auto" or a number.
        precision: of Lightning: "32-true", "bf16-mixed", ...
    """

    epochs: int = 60
    patience: int = 10
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0
    gradient_clip: float = 1.0
    modality_dropout: float = 0.3
    monitor: str = "auto"
    group_by_length: bool | None = None
    threads: int | None = None
    workers: int = 0
    accelerator: str = "auto"
    devices: str | int = "auto"
    precision: str = "32-true"

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch_size) < 1:
            raise PaSEError(
                f"training wants epochs, patience and batch_size of 1 or more, found {self.epochs}, {self.patience} "
                f"and {self.batch_size}."
            )
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.gradient_clip < 0:
            raise PaSEError(
                "training wants learning_rate > 0, weight_decay >= 0 and gradient_clip >= 0, found "
                f"{self.learning_rate}, {self.weight_decay} and {self.gradient_clip}."
            )
        if not 0 <= self.modality_dropout < 1 or not 0 <= self.warmup <= 1:
            raise PaSEError(
                f"training wants modality_dropout in [0, 1) and warmup in [0, 1], found {self.modality_dropout} "
                f"and {self.warmup}."
            )


@dataclass
class PhaseConfig:
    """The dual-phase rule: an epoch of warm-up trains plainly, an epoch of balancing applies the balancing method.

    Attributes:
        start: "entropy" waits until the predictive entropy on validation is stable, "always" balances from the first
            epoch, "never" does not balance.
        min_epochs: epochs of warm-up at least.
        tolerance: relative change of the entropy from one epoch to the next that counts as stable.
        patience: stable epochs in a row that end the warm-up.
        guard: relative loss of the validation metric, against its best of the warm-up, that counts as harm.
        guard_patience: harmful epochs in a row after which balancing is switched off for good.
    """

    start: Literal["entropy", "always", "never"] = "entropy"
    min_epochs: int = 3
    tolerance: float = 0.05
    patience: int = 2
    guard: float = 0.03
    guard_patience: int = 3

    def __post_init__(self) -> None:
        if min(self.min_epochs, self.patience, self.guard_patience) < 1 or self.tolerance <= 0 or self.guard < 0:
            raise PaSEError(
                "phases wants min_epochs, patience and guard_patience of 1 or more, tolerance > 0 and guard >= 0, "
                f"found {self}."
            )


@dataclass
class RunConfig:
    """A training run is a function of this configuration and the data.

    Attributes:
        data: folder or file with the data, in any format that `pase inspect` knows; None is the bundled synthetic
            benchmark.
        out: run folder; None is runs/DATA-MODEL-seedN, and runs/DATA-MODEL-seedN-XXXXXX where other options differ
            from the defaults. The six digits follow from these options (see `run_name`). So the same command finds its
            own run again, and a command with other options gets another folder.
        seed: of the initial weights, the order of the utterances and dropout.
        label: label column; None is the only one, or the one named "sentiment", "label", "emotion" or "rating".
        kind: of task; "auto" follows from the label column, "classification" takes numbers as class names.
        num_classes: ordered classes of a regression; None follows from the range.
        modalities: names of those to use; None is all that the data hold.
        text: how transcripts become features.
        encoders: options by modality; the key "default" holds those of every modality without its own.
        model: plug-in name and its options.
        balancing: plug-in name of the balancing method and its options; without a name, the one that goes with the
            model ("held_out" with PaSE, "none" with any other).
        phases: the dual-phase rule.
        training: optimisation.
        convention: of the metrics: "mmsa" (which is "sims" for labels in [-1, 1], as in CH-SIMS), "mult", "pase", "sims",
            or "mosi" (MMSA's for other ranges).
    """

    data: str | None = None
    out: str | None = None
    seed: int = 1
    label: str | None = None
    kind: Literal["auto", "regression", "classification"] = "auto"
    num_classes: int | None = None
    modalities: list[str] | None = None
    text: TextConfig = field(default_factory=TextConfig)
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=lambda: {"name": "pase"})
    balancing: dict[str, Any] = field(default_factory=dict)
    phases: PhaseConfig = field(default_factory=PhaseConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    convention: Convention = "mmsa"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise PaSEError(f"The seed lies in [0, 2^31), found {self.seed}.")

    @property
    def problem(self) -> ProblemOptions:
        """The options that make a problem of a table."""
        return ProblemOptions(self.label, self.kind, self.num_classes, self.modalities, self.text, self.encoders)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **more: Any) -> Self:
        """A configuration from plain mappings, such as those of a YAML file.

        Args:
            options: fields by name; any may be left out.
            more: further fields, which replace those of `options`.

        Errors:
            PaSEError: an option has no such name or value; the sentence says which.
        """
        plain = {**options, **more}
        try:
            return cls(**{key: _NESTED[key](**value) if key in _NESTED else value for key, value in plain.items()})
        except (TypeError, AttributeError) as error:
            raise PaSEError(f"These are no options of a run: {error}; see `pase train --help`.") from error

    def to_dict(self) -> dict[str, Any]:
        """The options as plain containers, which JSON and YAML can hold."""
        return dataclasses.asdict(self)


_NESTED: dict[str, Any] = {"text": TextConfig, "training": TrainingConfig, "phases": PhaseConfig}
