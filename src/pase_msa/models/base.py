"""The model contract, and how a model is built from its name and options."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
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
from pase_msa.encoders.scaler import Standardizer
from pase_msa.errors import PaSEError
from pase_msa.heldout.mixture import CoalitionMixture, mix_outputs
from pase_msa.heldout.reference import RidgeReference
from pase_msa.objective import Losses
from pase_msa.task import Task


class Model(nn.Module):
    """A batch becomes outputs and named losses.

    A plug-in module offers `Config`, a dataclass of options with a field `name`, and
    `build(task, inputs, config) -> Model`; optionally `BALANCING`, the balancing method that goes with it.

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
    """

    balancing: str = "none"
    has_vectors: bool = True
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

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Passes of the network with only the named modalities, one per coalition; coalition weights have no effect.

        Override where encoding the batch once is enough.
        """
        return [self.network(batch.only(coalition)) for coalition in coalitions]

    def predict_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """The prediction with only the named modalities, one per coalition.

        With coalition weights, each weighted coalition is reduced to the modalities that it shares with the given one.
        """
        weighted = self.mixture.coalition_weights
        if not weighted:
            return self.network_coalitions(batch, coalitions)
        weights: list[dict[frozenset[str], float]] = []
        for coalition in coalitions:
            parts: dict[frozenset[str], float] = {}
            for members, weight in weighted.items():
                parts[members & coalition] = parts.get(members & coalition, 0.0) + weight
            weights.append(parts)
        needed = list(dict.fromkeys(members for parts in weights for members in parts))
        outputs = dict(zip(needed, self.network_coalitions(batch, needed), strict=True))
        share = float(self.mixture.reference)
        reference: Sequence[Tensor | None] = [None] * len(coalitions)
        if self.reference is not None and share:
            reference = self.reference(batch, coalitions)
        return [
            mix_outputs(self.task, [(weight, outputs[members]) for members, weight in parts.items()], other, share)
            for parts, other in zip(weights, reference, strict=True)
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

    def encode(self, batch: Batch) -> tuple[dict[str, Float[Tensor, "n d"]], dict[str, Bool[Tensor, " n"]]]:
        """Vectors and presence by modality, in the task's order; the vector of an absent modality is zero.

        A modality that no utterance of the batch has, such as an excluded one, is not encoded and costs nothing.
        """
        for name in self.encoders:
            if name not in batch.features:
                raise PaSEError(f"The model needs the modality {name!r}; the batch has {list(batch.features)}.")
        present = {name: batch.present[name] for name in self.encoders}
        vectors: dict[str, Tensor] = {}
        for name in _occurring(present):
            vectors[name] = self._vector(name, batch) * present[name].unsqueeze(1)
        if len(vectors) < len(present):
            like = next(iter(vectors.values()), self.class_prior)
            zeros = like.new_zeros(len(batch), self.width)
            vectors = {name: vectors.get(name, zeros) for name in present}
        return vectors, present

    def _vector(self, name: str, batch: Batch) -> Float[Tensor, "n d"]:
        """The vectors of one modality; those of utterances that are marked absent are of no account."""
        encoder = self.encoders[name]
        assert isinstance(encoder, Encoder)
        # a sequence that is marked absent has no steps, so that an encoder that leaves padding out does nothing for it
        lengths = batch.lengths[name] * batch.present[name]
        if name in self.scalers:
            return encoder.scaled(batch.features[name], lengths, self.scalers[name])
        vectors: Tensor = encoder(batch.features[name], lengths)
        return vectors

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
        return prediction_dataset(table, self.task, self.inputs, split, labels=labels)

    def fit_scalers(self, columns: Mapping[str, SequenceColumn], rows: Sequence[int]) -> None:
        """Fit the standardisation of every modality on the given (training) rows."""
        for name, scaler in self.scalers.items():
            scaler.fit(columns[name].frames(rows))  # type: ignore[operator]

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
