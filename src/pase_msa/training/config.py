"""The configuration of a run: every field is an option of `pase train`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from pase_msa.data.problem import ProblemOptions
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.metrics import Convention
from pase_msa.training.phases import PhaseConfig


@dataclass
class TrainingConfig:
    """Optimisation.

    Attributes:
        epochs: at most.
        patience: epochs without a better validation metric before training stops.
        batch_size: utterances a step.
        learning_rate: of everything but a fine-tuned language model, which has its own (text.learning_rate).
        weight_decay: of "adamw".
        optimizer: "adamw", "adam" or "sgd" (momentum .9).
        schedule: after the warm-up: "constant", "linear" to zero, or "cosine" to zero.
        warmup: share of all steps over which the learning rate rises.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        modality_dropout: probability that a modality of a training utterance is withheld (never all of them).
        monitor: validation metric that selects the epoch; "auto": mae for scores, f1_weighted for classes.
        group_by_length: batches of similar length; None: where a language model is fine-tuned.
        threads: torch threads; None: one, which small networks run fastest on, or as torch chooses where a language
            model is fine-tuned.
        workers: processes that load batches.
        accelerator: Lightning's: "auto", "cpu", "gpu", ...
        devices: Lightning's: "auto" or a number.
        precision: Lightning's: "32-true", "bf16-mixed", ...
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
class RunConfig:
    """A run is a function of this, the data and nothing else.

    Attributes:
        data: folder or file with the data, in any format that `pase inspect` knows; None is the bundled synthetic
            benchmark.
        out: run folder; None is runs/DATA-MODEL-seedN.
        seed: of initialisation, order and dropout.
        label: label column; None is the only one, or "sentiment", "label", "emotion", "rating".
        kind: "auto" reads it off the label column; "classification" takes numbers as class names.
        num_classes: ordered classes of a regression; None follows from the range.
        modalities: those to use; None is all that the data hold.
        text: how transcripts become features.
        encoders: options by modality; the key "default" holds those of every modality without its own.
        model: plug-in name and its options.
        balancing: plug-in name of the balancing method and its options; without a name, the one that goes with the
            model ("held_out" with PaSE, "none" with any other).
        phases: the dual-phase rule.
        training: optimisation.
        convention: of the metrics: "mmsa", "mult", "pase".
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

    def to_dict(self) -> dict[str, Any]:
        """Plain containers."""
        return dataclasses.asdict(self)
