"""The configuration of a run: every field is an option of `pase train`. Nothing here needs Lightning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pase_msa import plugins
from pase_msa.data.context import MODES, ContextMode
from pase_msa.data.opening import SplitRule
from pase_msa.data.problem import ProblemOptions
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.metrics import Convention, check_convention
from pase_msa.ranges import COUNT, NOT_NEGATIVE, POSITIVE, PROPER_SHARE, SHARE, Range, check_ranges, one_of

PRECISIONS = ("32-true", "bf16-mixed", "auto")
_REFUSED = {
    "16-mixed": "float16 needs scaled losses, which balancing methods do not have",
    "16": "float16 needs scaled losses, which balancing methods do not have",
    "16-true": "prototypes and statistics need single precision",
    "bf16-true": "prototypes and statistics need single precision",
    "64-true": "nothing here gains from it, and the transport problems have double precision anyway",
    "64": "nothing here gains from it, and the transport problems have double precision anyway",
}
"""Precisions of Lightning that training does not have, and why."""

FINE_TUNING: dict[str, dict[str, Any]] = {
    "text": {"learning_rate": 3e-5},
    "training": {
        "epochs": 6,
        "patience": 6,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "schedule": "linear",
        "warmup": 0.1,
        "modality_dropout": 0.0,
        "precision": "auto",
    },
}
"""Defaults of a run that fine-tunes a language model, where they are others than those of the dataclasses."""


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
        averaging: length of an exponential average of the weights, as a share of all steps; the average is what is
            validated and saved. 0 does not average.
        modality_dropout: probability that a modality of a training utterance is masked (never all of them).
        monitor: validation metric that selects the epoch; "auto" is mae for scores and f1_weighted for classes.
        group_by_length: whether a batch holds utterances of similar length; None is yes where a language model is
            fine-tuned.
        threads: torch threads; None is one, which is fastest for small networks, or torch's own choice where a language
            model is fine-tuned.
        workers: processes that load batches.
        shuffle_buffer: of a sharded table, stream the training split, and draw the next utterance among so many; None
            copies the table to this machine.
        validation_limit: utterances of the validation split, at most, that each epoch is judged on: those of videos
            that the seed draws once. The results at the end are of all of them.
        accelerator: of Lightning: "auto", "cpu", "gpu", ...
        devices: of Lightning: "auto" or a number.
        precision: "32-true", or "bf16-mixed": encoders compute in bfloat16, everything else in single precision. "auto"
            is "bf16-mixed" where the processor or GPU has instructions for it.
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
    averaging: float = 0.0
    modality_dropout: float = 0.3
    monitor: str = "auto"
    group_by_length: bool | None = None
    threads: int | None = None
    workers: int = 0
    shuffle_buffer: int | None = None
    validation_limit: int = 20_000
    accelerator: str = "auto"
    devices: str | int = "auto"
    precision: str = "32-true"

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "training",
            epochs=COUNT,
            patience=COUNT,
            batch_size=COUNT,
            learning_rate=POSITIVE,
            weight_decay=NOT_NEGATIVE,
            warmup=SHARE,
            gradient_clip=NOT_NEGATIVE,
            averaging=SHARE,
            modality_dropout=PROPER_SHARE,
            threads=Range(1, 4096, whole=True),
            workers=Range(0, 1024, whole=True),
            shuffle_buffer=COUNT,
            validation_limit=COUNT,
        )
        one_of(self.optimizer, ("adamw", "adam", "sgd"), "training.optimizer")
        one_of(self.schedule, ("constant", "linear", "cosine"), "training.schedule")
        self.precision = _precision(self.precision)


def _precision(asked: str | int) -> str:
    """The precision under its full name.

    Errors:
        PaSEError: one that training does not have; the sentence says which to take.
    """
    name = {"32": "32-true", "bf16": "bf16-mixed"}.get(str(asked), str(asked))
    if name in _REFUSED:
        raise PaSEError(
            f"training.precision is one of {', '.join(PRECISIONS)}, not {asked!r}: {_REFUSED[name]}; take "
            f"{'32-true' if '64' in name else 'bf16-mixed'}."
        )
    return one_of(name, PRECISIONS, "training.precision")


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
        one_of(self.start, ("entropy", "always", "never"), "phases.start")
        check_ranges(
            self,
            "phases",
            min_epochs=COUNT,
            tolerance=POSITIVE,
            patience=COUNT,
            guard=NOT_NEGATIVE,
            guard_patience=COUNT,
        )


@dataclass
class RunConfig:
    """A training run is a function of this configuration and the data.

    Attributes:
        data: folder or file with the data, in any format that `pase inspect` knows; None is the bundled synthetic
            benchmark.
        out: run folder; None is runs/DATA-MODEL-seedN, and runs/DATA-MODEL-seedN-DIGITS where other options differ
            from the defaults. The six digits follow from these options (see `run_name`). So the same command finds its
            own run again, and a command with other options gets another folder.
        seed: of the initial weights, the order of the utterances and dropout.
        label: label column; None is the only one, or the one named "sentiment", "label", "emotion" or "rating".
            Several, divided by commas, are trained together and share their encoders.
        kind: of task; "auto" follows from the label column, "classification" takes numbers as class names.
        num_classes: ordered classes of a regression; None follows from the range.
        modalities: names of those to use; None is all that the data hold.
        text: how transcripts become features.
        encoders: options by modality; the key "default" holds those of every modality without its own.
        context: whether what was said around an utterance in its "video", or "before" it there, is a modality of its
            own. It is made of the other utterances' features or frozen text, never of labels.
        context_of: what context is made of; None is text, or the first modality where there is no text. Several give
            one modality each, "context_NAME".
        model: plug-in name and its options.
        balancing: plug-in name of the balancing method and its options; without a name, the one that goes with the
            model ("held_out" with PaSE, "none" with any other).
        phases: the dual-phase rule.
        training: optimisation.
        convention: of the metrics: "mmsa" ("sims" for labels in [-1, 1], as CH-SIMS has them), "mult", "pase", "sims",
            or "mosi" (MMSA's for other ranges).
        split: "auto" draws the splits that the data lack: by video or speaker where there are any, else by utterance,
            always the same for the same data.
        allow_leaks: whether to train on a modality that is a function of a label; such a run is refused otherwise.
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
    context: ContextMode = "none"
    context_of: list[str] | None = None
    model: dict[str, Any] = field(default_factory=lambda: {"name": "pase"})
    balancing: dict[str, Any] = field(default_factory=dict)
    phases: PhaseConfig = field(default_factory=PhaseConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    convention: Convention = "mmsa"
    split: SplitRule = "given"
    allow_leaks: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "", seed=Range(0, 2**31 - 1, whole=True), num_classes=Range(2, 1000, whole=True))
        one_of(self.kind, ("auto", "regression", "classification"), "kind")
        check_convention(self.convention)
        _check_names(self)
        _check_context(self)

    @property
    def problem(self) -> ProblemOptions:
        """The options that make a problem of a table."""
        own = (self.label, self.kind, self.num_classes, self.modalities, self.text, self.encoders)
        return ProblemOptions(*own, self.context, self.context_of)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **more: Any) -> Self:
        """A configuration from plain mappings, such as those of a YAML file.

        Args:
            options: fields by name; any may be left out. With {"text": {"frozen": False}} the others have the defaults
                of `FINE_TUNING`.
            more: further fields, which replace those of `options`.

        Errors:
            PaSEError: an option has no such name or value; the sentence says which.
        """
        plain = {**options, **more}
        if isinstance(text := plain.get("text"), Mapping) and text.get("frozen") is False:
            plain |= {key: {**values, **(plain.get(key) or {})} for key, values in FINE_TUNING.items()}
        try:
            return cls(**{key: _NESTED[key](**value) if key in _NESTED else value for key, value in plain.items()})
        except (TypeError, AttributeError) as error:
            raise PaSEError(f"These are no options of a run: {error}; see `pase train --help`.") from error

    def to_dict(self) -> dict[str, Any]:
        """The options as plain containers, which JSON and YAML can hold."""
        return dataclasses.asdict(self)


def _check_names(config: RunConfig) -> None:
    """Refuse names of plug-ins that do not exist, and modalities that are given twice, before anything is loaded."""
    for kind, options in (("models", config.model), ("balancing", config.balancing)):
        if (name := options.get("name")) is not None:
            plugins.check(kind, str(name))
    for options in config.encoders.values():
        if isinstance(options, Mapping) and (name := options.get("encoder")) is not None:
            plugins.check("encoders", str(name))
    names = list(config.modalities or ())
    if config.modalities is not None and (not names or len(set(names)) < len(names)):
        raise PaSEError(f"modalities names one or more of them, each once, found {', '.join(names) or 'none'}.")


def _check_context(config: RunConfig) -> None:
    """Refuse options of the context that exclude each other, and a context of a training split that is streamed."""
    one_of(config.context, MODES, "context")
    names = list(config.context_of or ())
    if config.context_of is not None and (not names or len(set(names)) < len(names)):
        raise PaSEError(f"context_of names one modality or more, each once, found {', '.join(names) or 'none'}.")
    if config.context == "none" and names:
        raise PaSEError(
            f"context_of names {names[0]!r}, but there is no context; say --context video or before, or leave it out."
        )
    if config.context != "none" and config.training.shuffle_buffer is not None:
        raise PaSEError(
            f"context {config.context!r} needs all utterances of a video, which a run with training.shuffle_buffer "
            "never has at once; leave one of them out."
        )


_NESTED: dict[str, Any] = {"text": TextConfig, "training": TrainingConfig, "phases": PhaseConfig}
