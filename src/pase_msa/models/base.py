"""The model contract, and how a model is built from its name and options."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa import plugins
from pase_msa.batch import Batch, Outputs
from pase_msa.data.columns import SequenceColumn
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.data.extraction import check_extraction
from pase_msa.data.inputs import InputSpec
from pase_msa.data.problem import prediction_dataset
from pase_msa.data.table import FeatureTable
from pase_msa.encoders.base import Encoder, build_encoders
from pase_msa.encoders.precision import in_bfloat16
from pase_msa.encoders.scaler import Standardizer
from pase_msa.errors import PaSEError
from pase_msa.heldout.mixture import CoalitionMixture, mix_outputs
from pase_msa.heldout.presence import stacked_presence
from pase_msa.heldout.reference import RidgeReference
from pase_msa.models.row_state import RowState
from pase_msa.objective import Losses
from pase_msa.task import Task

_log = logging.getLogger(__name__)


class Model(nn.Module):
    """A batch becomes outputs and named losses.

    A plug-in module offers `Config`, a dataclass of options with a field `name`, and
    `build(task, inputs, config) -> Model`; optionally `BALANCING`, the balancing method that goes with it, and
    `REDUCED`, a few words on what separates it from the published system of its name, if anything essential does.

    Args:
        task: what is predicted.
        inputs: input of each modality; the keys are the task's modalities.
        width: size D of the modality vectors.

    Attributes:
        class_prior: class frequencies of the training split, [K]; uniform until `fit_prior`.
        temperature: divides the logits for the confidence; fitted on validation after training.
        recipe: plug-in name and options, for saving.
        width: size D of the modality vectors.
        has_vectors: whether outputs hold one vector per modality; False where frames are fused.
        balancing: name of the balancing method that goes with the model unless a run names another.
        mixture: weights of coalitions of modalities; a prediction is the weighted mean of those of the coalitions.
        reference: closed-form model of the diagnosis that takes part in predictions, or None.
        imputation: whether absent modalities are imputed; may be set between predictions, to measure its effect. None
            in a model without imputation.
        extraction: record of how the training features were made, where the table has one.
        conversations: whether the model reads the utterances of a video together, so that a batch holds whole videos.
            Utterances of a video are those that share `batch.videos`, in the order of `batch.rows`; where a batch has
            no videos, each utterance is by itself.
    """

    balancing: str = "none"
    has_vectors: bool = True
    conversations: bool = False
    imputation: bool | None = None
    class_prior: Tensor
    temperature: Tensor
    recipe: dict[str, Any]

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], width: int) -> None:
        super().__init__()
        if list(inputs) != list(task.modalities):
            raise PaSEError(f"The task has the modalities {list(task.modalities)}, the inputs {list(inputs)}.")
        self.task = task
        self.inputs = dict(inputs)
        self.width = width
        self.encoders = build_encoders(inputs, width)
        self.scalers = nn.ModuleDict({n: Standardizer(spec.dim) for n, spec in inputs.items() if spec.dim})
        self.register_buffer("class_prior", torch.full((task.num_classes,), 1 / task.num_classes))
        self.register_buffer("temperature", torch.ones(()))
        self.mixture = CoalitionMixture(task.modalities)
        self.reference: RidgeReference | None = None
        self.recipe = {}
        self.mixed_precision = False
        self.extraction: dict[str, Any] | None = None

    def forward(self, batch: Batch) -> Outputs:
        """The prediction. `batch.labels` has no effect in evaluation.

        In training, and without coalition weights, this is one pass of the network. In evaluation with coalition
        weights it is the mixture of the coalitions' predictions and of the closed-form reference, if there is one.
        """
        if self.training or not self.mixture.coalition_weights:
            return self.network(batch)
        return self.predict_coalitions(batch, [frozenset(self.task.modalities)])[0]

    @abstractmethod
    def network(self, batch: Batch) -> Outputs:
        """One pass of the network with every modality of the batch; coalition weights have no effect."""

    @abstractmethod
    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """Named losses that add up to the objective; needs `batch.labels`."""

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Update momentum state by a training batch, after `losses` of the same outputs; nothing by default."""

    def begin_epoch(self) -> None:
        """Called before the first step of each epoch; does nothing by default."""

    @property
    def ready(self) -> bool:
        """Whether momentum state, if the model has any, was initialised by a first batch."""
        return True

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that a pass of the network depends on: all of them, unless the method says otherwise."""
        return self.task.modalities

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Passes of the network with only the named modalities, one per coalition; coalition weights have no effect.

        Override where encoding the batch once is enough.
        """
        return [self.network(batch.only(coalition)) for coalition in coalitions]

    def predict_coalitions(
        self, batch: Batch, coalitions: Sequence[frozenset[str]], *, lost: bool = False
    ) -> list[Outputs]:
        """The prediction with only the named modalities, one per coalition.

        With coalition weights, each weighted coalition is reduced to the modalities that it shares with the given one.

        Args:
            batch: utterances.
            coalitions: sets of modalities.
            lost: whether the others are as if the utterance had never had them, so that the weights are those of what
                is left. Else the weights are those of what the utterance has: what is asked then is what each
                modality contributes to the prediction that is made of it.
        """
        if not self.mixture.coalition_weights:
            return self.network_coalitions(batch, coalitions)
        names = self.task.modalities
        if lost:
            weighed = self.mixture.weigh([stacked_presence(batch.only(c).present, names) for c in coalitions])
        else:
            weighed = self.mixture.weigh([stacked_presence(batch.present, names)]) * len(coalitions)
        mixed: list[tuple[dict[frozenset[str], Any], Any]] = []
        for coalition, (listed, share) in zip(coalitions, weighed, strict=True):
            parts: dict[frozenset[str], Any] = {}
            for members, weight in listed:
                parts[members & coalition] = parts.get(members & coalition, 0.0) + weight
            mixed.append((parts, share))
        needed = list(dict.fromkeys(members for parts, _ in mixed for members in parts))
        outputs = dict(zip(needed, self.network_coalitions(batch, needed), strict=True))
        reference: Sequence[Tensor | None] = [None] * len(coalitions)
        if self.reference is not None and any(isinstance(share, Tensor) or share for _, share in mixed):
            reference = self.reference(batch, coalitions, lost=lost)
        return [
            mix_outputs(self.task, [(weight, outputs[members]) for members, weight in parts.items()], other, share)
            for (parts, share), other in zip(mixed, reference, strict=True)
        ]

    def coalition_utility(self, losses: Mapping[str, float], coalition: frozenset[str]) -> float:
        """Utility of a coalition from the epoch's mean detail losses, eq. 19.

        Errors:
            PaSEError: the model has no such utility.
        """
        raise PaSEError(
            f"{type(self).__name__} has no alignment utility; choose balancing.utility 'prediction' instead."
        )

    def prediction_weight(self, modality: str) -> float:
        """Total weight of the parts of the prediction that a modality takes part in, in [0, 1]; 0 if it is excluded."""
        part = self.mixture.prediction_weight(modality)
        if self.reference is None:
            return part
        return part + float(self.mixture.reference) * (self.reference.prediction_weight(modality) - part)

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Parameters of one modality; those of the fusion and the head belong to none."""
        return list(self.encoders[modality].parameters())

    def encoding(self, features: Tensor) -> AbstractContextManager[Any]:
        """Where the encoders run: in bfloat16 with `mixed_precision`, which training sets; the rest of a model never.

        Nearly all time goes to the encoders. Prototypes, transport, ridge regressions and losses keep the precision
        that they need.
        """
        return in_bfloat16(features.device.type) if self.mixed_precision else contextlib.nullcontext()

    def encode(self, batch: Batch) -> tuple[dict[str, Float[Tensor, "n d"]], dict[str, Bool[Tensor, " n"]]]:
        """Vectors and presence by modality, in the task's order; the vector of an absent modality is zero.

        A modality that no utterance of the batch has, such as an excluded one, is not encoded and costs nothing.
        """
        for name in self.encoders:
            if name not in batch.features:
                raise PaSEError(f"The model needs the modality {name!r}; the batch has {list(batch.features)}.")
        present = {name: batch.present[name] for name in self.encoders}
        vectors: dict[str, Tensor] = {}
        encoded = batch.encoded or {}
        for name in _occurring(present):
            vector = encoded[name] if name in encoded else self._vector(name, batch)
            vectors[name] = vector * present[name].unsqueeze(1)
        if len(vectors) < len(present):
            like = next(iter(vectors.values()), self.class_prior)
            zeros = like.new_zeros(len(batch), self.width)
            vectors = {name: vectors.get(name, zeros) for name in present}
        return vectors, present

    def encode_frames(
        self, batch: Batch, names: Sequence[str] | None = None
    ) -> tuple[dict[str, Float[Tensor, "n t d"]], dict[str, Bool[Tensor, "n t"]], dict[str, Bool[Tensor, " n"]]]:
        """Frames of the encoders, which steps are valid, and presence, by modality in the task's order.

        Frames are zero at padded steps, and an absent modality has no valid step. T differs between modalities.

        Args:
            batch: with all modalities.
            names: of the modalities; all if None.

        Errors:
            PaSEError: the batch lacks a modality, or an encoder has no frames.
        """
        frames, valid, present = {}, {}, {}
        for name in self.task.modalities if names is None else names:
            if name not in batch.features:
                raise PaSEError(f"The model needs the modality {name!r}; the batch has {list(batch.features)}.")
            encoder = self.encoders[name]
            features, lengths, here = batch.features[name], batch.lengths[name], batch.present[name]
            if name in self.scalers:
                features = self.scalers[name](features)
            with self.encoding(features):
                encoded, steps = encoder.frames(features, lengths)  # type: ignore[operator]
            mask = steps & here.unsqueeze(1)
            frames[name], valid[name] = encoded.to(self.class_prior.dtype) * mask.unsqueeze(2), mask
            present[name] = here
        return frames, valid, present

    def _vector(self, name: str, batch: Batch) -> Float[Tensor, "n d"]:
        """The vectors of one modality; those of utterances that are marked absent are of no account."""
        encoder = self.encoders[name]
        assert isinstance(encoder, Encoder)
        # a sequence that is marked absent has no steps, so that an encoder that leaves padding out does nothing for it
        lengths = batch.lengths[name] * batch.present[name]
        features = batch.features[name]
        with self.encoding(features):
            if name in self.scalers:
                vectors: Tensor = encoder.scaled(features, lengths, self.scalers[name])
            else:
                vectors = encoder(features, lengths)
        return vectors.to(self.class_prior.dtype)

    def outputs(
        self,
        logits: Float[Tensor, "n k"],
        fused: Tensor,
        present: dict[str, Bool[Tensor, " n"]],
        **details: Any,
    ) -> Outputs:
        """Outputs from logits, eq. 14; for an utterance without any modality, the class prior."""
        any_present = torch.stack(list(present.values())).any(0)
        logits = torch.where(any_present.unsqueeze(1), logits, self.class_prior.log())
        probabilities = logits.softmax(1)
        score = self.task.score(probabilities) if self.task.kind == "regression" else None
        return Outputs(logits, probabilities, score, fused, present=present, **details)

    def dataset(self, table: FeatureTable, split: str | None = None, *, labels: bool = False) -> UtteranceDataset:
        """The rows of a table as this model reads them.

        Args:
            table: data; a modality that it lacks is absent from every row.
            split: only the rows of this split; all rows if None.
            labels: whether to read the labels. Rows without a label or without any modality are then left out.

        Errors:
            PaSEError: features that were extracted otherwise than in training or have other sizes, no such split, or
                (with `labels`) no labelled row.
        """
        check_extraction(self.extraction, table.meta, self.inputs)
        dataset = prediction_dataset(table, self.task, self.inputs, split, labels=labels)
        dataset.whole_videos = self.conversations
        return dataset

    @property
    def row_state(self) -> RowState | None:
        """State per training row, which is part of a checkpoint and not of a saved model; None by default."""
        return self.__dict__.get("_row_state")

    def keep_row_state(self, state: RowState | None) -> None:
        """Set `row_state`; a model calls this in `fit_rows`."""
        # past torch's own bookkeeping, which would make it a part of the model's weights
        self.__dict__["_row_state"] = state

    def fit_rows(self, rows: Int[Tensor, " r"], labels: Float[Tensor, " r"]) -> None:
        """Called once before training, for models that keep a state per training row; does nothing by default.

        Args:
            rows: of the training utterances in their table, [R].
            labels: their scores or class numbers, [R].
        """

    def fit_scalers(self, columns: Mapping[str, SequenceColumn], rows: Sequence[int]) -> None:
        """Fit the standardisation of every modality on the given (training) rows.

        A warning is logged where a few wild values would have set the scale.
        """
        for name, scaler in self.scalers.items():
            assert isinstance(scaler, Standardizer)
            scale = scaler.fit_column(columns[name], rows)
            if count := int(scale.dominated.sum()):
                _log.warning(
                    "%s: %d values in %d of %d dimensions lie so far out that they would have set the scale; the scale "
                    "is that of the others, and these values are cut off; see `pase inspect`",
                    name,
                    int(scale.beyond[scale.dominated].sum()),
                    count,
                    len(scale.mean),
                )

    def fit_prior(self, labels: Float[Tensor, " n"]) -> None:
        """Set the class prior to the class frequencies of training labels [N]."""
        self.class_prior.copy_(self.task.frequencies(labels))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, task, inputs, scalers and options to a folder, whole or not at all."""
        from pase_msa.models.saving import save_model  # it builds models, and imports this module

        return save_model(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> Self:
        """The model that `save_pretrained` wrote, in evaluation mode.

        Errors:
            PaSEError: the folder holds no model of this class, or a damaged one.
        """
        from pase_msa.models.saving import load_model

        model = load_model(folder, device)
        if not isinstance(model, cls):
            raise PaSEError(
                f"{folder} holds a {type(model).__name__}, not a {cls.__name__}; load it with Model.from_pretrained."
            )
        return model


def _occurring(present: Mapping[str, Bool[Tensor, " n"]]) -> list[str]:
    """The modalities that some utterance has; in a compiled graph, which cannot branch on values, all of them."""
    if torch.compiler.is_compiling():
        return list(present)
    flags = torch.stack(list(present.values())).any(1).tolist()
    return [name for name, occurs in zip(present, flags, strict=True) if occurs]


def of_coalitions(
    parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]], coalitions: Sequence[frozenset[str]]
) -> Iterator[tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]]:
    """What an encoded batch shows of each coalition: parts of the other modalities are zero, and they are absent.

    Args:
        parts: of each modality, such as its vector; zero where it is absent.
        present: whether the utterance has the modality, [N].
        coalitions: of modalities.
    """
    for coalition in coalitions:
        masked = {name: part if name in coalition else part * 0.0 for name, part in parts.items()}
        yield masked, {name: flag & (name in coalition) for name, flag in present.items()}


def build_model(name: str, task: Task, inputs: Mapping[str, InputSpec], options: Mapping[str, Any]) -> Model:
    """A model by its plug-in name and options.

    Errors:
        PaSEError: an unknown name, or an option that does not fit; the sentence lists what there is.
    """
    module = plugins.load("models", name)
    config = plugins.configure(module.Config, options, f"The model {name}")
    model: Model = module.build(task, inputs, config)
    model.balancing = getattr(module, "BALANCING", "none")
    model.recipe = {"name": name, "options": {**dataclasses.asdict(config)}}
    return model


def head(width: int, num_classes: int, dropout: float) -> nn.Sequential:
    """The MLP of eq. 14: fused vector [N, width] to logits [N, K]."""
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, num_classes))
