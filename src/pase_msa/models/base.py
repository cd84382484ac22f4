"""The model contract, and how a model is built, saved and loaded."""

from __future__ import annotations

import dataclasses
import json
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pase_msa import plugins
from pase_msa.batch import Batch, Outputs
from pase_msa.data.columns import SequenceColumn
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.data.extraction import check_extraction
from pase_msa.data.inputs import InputSpec
from pase_msa.data.problem import prediction_dataset
from pase_msa.data.table import FeatureTable
from pase_msa.encoders.base import build_encoders
from pase_msa.encoders.scaler import Standardizer
from pase_msa.errors import PaSEError
from pase_msa.files import replacing, write_json
from pase_msa.heldout.mixture import CoalitionMixture, mix_outputs
from pase_msa.heldout.reference import RidgeReference
from pase_msa.objective import Losses
from pase_msa.task import Task

_FORMAT = 3  # of a saved model: 2 since the reference knows products, 3 since it knows the class prior
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class Model(nn.Module):
    """A batch becomes outputs and named losses.

    A plug-in module offers `Config`, a dataclass of options with a field `name`, and
    `build(task, inputs, config) -> Model`; optionally `BALANCING`, the balancing method that goes with it.

    Args:
        task: what is predicted.
        inputs: what each modality brings; the keys are the task's modalities.
        width: size D of the modality vectors.

    Attributes:
        class_prior: class frequencies of the training split, [K]; uniform until `fit_prior`.
        temperature: divides the logits for the confidence; fitted on validation after training.
        recipe: plug-in name and options, for saving.
        width: size D of the modality vectors.
        has_vectors: whether outputs hold a vector a modality; not where frames are fused.
        balancing: name of the balancing method that goes with the model unless a run names another.
        mixture: weights of the coalitions of modalities that predictions are made of.
        reference: the closed-form model of the diagnosis, where predictions may lean on it.
        imputation: whether absent modalities are imputed; may be set between predictions, to measure what it does. None
            in a model that knows no imputation.
        extraction: how the features were made that the model was trained on, where the table said so.
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
        """What the model predicts. Never reads `batch.labels` in evaluation.

        In training that is the network's own output. In evaluation it is the mixture over coalitions of modalities,
        where coalition weights are set.
        """
        if self.training or not self.mixture.coalition_weights:
            return self.network(batch)
        return self.predict_coalitions(batch, [frozenset(self.task.modalities)])[0]

    @abstractmethod
    def network(self, batch: Batch) -> Outputs:
        """One pass of the network with every modality that the batch shows, whatever the mixture."""

    @abstractmethod
    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """Named losses that add up to the objective; `batch.labels` is there."""

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Take a training batch into momentum state, after `losses`; nothing by default."""

    def begin_epoch(self) -> None:
        """Told before the first step of each epoch; nothing by default."""

    @property
    def ready(self) -> bool:
        """False while momentum state still has to see its first batch."""
        return True

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """The network's outputs with only the named modalities, one per coalition, whatever the mixture.

        Override where encoding the batch once is enough.
        """
        return [self.network(batch.only(coalition)) for coalition in coalitions]

    def predict_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """What the model predicts when it is given only the named modalities, one per coalition.

        A coalition S that is weighed by w_S reads the modalities that S and the given coalition share.
        """
        weighed = self.mixture.coalition_weights
        if not weighed:
            return self.network_coalitions(batch, coalitions)
        weights: list[dict[frozenset[str], float]] = []
        for coalition in coalitions:
            parts: dict[frozenset[str], float] = {}
            for members, weight in weighed.items():
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
        """Utility of a coalition from the epoch's mean detail losses, eq. 19; for models that have one."""
        raise PaSEError(
            f"{type(self).__name__} has no alignment utility; choose balancing.utility 'prediction' instead."
        )

    def prediction_weight(self, modality: str) -> float:
        """Part of the prediction that uses a modality, in [0, 1]; 0 for one that is excluded."""
        part = self.mixture.prediction_weight(modality)
        if self.reference is None:
            return part
        return part + float(self.mixture.reference) * (self.reference.prediction_weight(modality) - part)

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Parameters that belong to one modality; those of the fusion and the head belong to none."""
        return list(self.encoders[modality].parameters())

    def encode(self, batch: Batch) -> tuple[dict[str, Float[Tensor, "n d"]], dict[str, Bool[Tensor, " n"]]]:
        """Vectors and presence by modality, in the task's order; the vector of an absent modality is zero.

        A modality that no utterance of the batch has, such as one that the equilibrium has closed, costs nothing.
        """
        for name in self.encoders:
            if name not in batch.features:
                raise PaSEError(f"The model needs the modality {name!r}; the batch has {list(batch.features)}.")
        present = {name: batch.present[name] for name in self.encoders}
        vectors: dict[str, Tensor] = {}
        for name in _occurring(present):
            features = batch.features[name]
            if name in self.scalers:
                features = self.scalers[name](features)
            vectors[name] = self.encoders[name](features, batch.lengths[name]) * present[name].unsqueeze(1)
        if len(vectors) < len(present):
            like = next(iter(vectors.values()), self.class_prior)
            nothing = like.new_zeros(len(batch), self.width)
            vectors = {name: vectors.get(name, nothing) for name in present}
        return vectors, present

    def outputs(
        self,
        logits: Float[Tensor, "n k"],
        fused: Tensor,
        present: dict[str, Bool[Tensor, " n"]],
        **details: Any,
    ) -> Outputs:
        """Outputs from logits, eq. 14; of an utterance that has no modality, the class prior."""
        something = torch.stack(list(present.values())).any(0)
        logits = torch.where(something.unsqueeze(1), logits, self.class_prior.log())
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
        """Fit the standardisation on the given (training) rows."""
        for name, scaler in self.scalers.items():
            scaler.fit(columns[name].frames(rows))  # type: ignore[operator]

    def fit_prior(self, labels: Float[Tensor, " n"]) -> None:
        """Take the class frequencies of training labels."""
        self.class_prior.copy_(self.task.frequencies(labels))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, task, inputs, scalers and options to a folder, whole or not at all."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        inputs = {name: dataclasses.asdict(spec) for name, spec in self.inputs.items()}
        for name, spec in inputs.items():
            if spec["encoder"] == "language_model":
                # weights are ours now: architecture and tokenizer go into the folder, so that it needs nothing else
                from pase_msa.data.pretrained import load_tokenizer

                home = target / "encoders" / name
                if Path(spec["text"]["model"]).resolve() != home.resolve():
                    shutil.rmtree(home, ignore_errors=True)
                    self.encoders[name].model.config.save_pretrained(home)  # type: ignore[union-attr,operator]
                    load_tokenizer(spec["text"]["model"]).save_pretrained(home)
                spec["text"] |= {"model": f"encoders/{name}", "pretrained": False}
        reference = None if self.reference is None else self.reference.shapes
        content = {
            "reference": reference,
            "format": _FORMAT,
            "recipe": self.recipe,
            "task": self.task.to_dict(),
            "inputs": inputs,
            "extraction": self.extraction,
        }
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        with replacing(target / _WEIGHTS) as weights:
            save_file(tensors, weights)
        write_json(target / _CONFIG, content)
        return target

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> Self:
        """The model that `save_pretrained` wrote, in evaluation mode."""
        home = Path(folder)
        if not (home / _CONFIG).is_file() or not (home / _WEIGHTS).is_file():
            raise PaSEError(
                f"{home} was to hold a saved model ({_CONFIG} and {_WEIGHTS}); give the `model` folder of a run."
            )
        try:
            content = json.loads((home / _CONFIG).read_text())
            found = content["format"]
            if found == _FORMAT:
                inputs = {name: InputSpec(**spec) for name, spec in content["inputs"].items()}
                task = Task.from_dict(content["task"])
                recipe, shapes = content["recipe"], content["reference"]
                extraction = content.get("extraction")
        except (ValueError, KeyError, TypeError) as error:
            raise PaSEError(f"{home / _CONFIG} is damaged ({error}); save the model again.") from error
        if found != _FORMAT:
            raise PaSEError(
                f"{home} was to hold a model of format {_FORMAT}, found {found}, which another version wrote; train it "
                "again."
            )
        for spec in inputs.values():
            if spec.text and not spec.text.get("pretrained", True):
                spec.text["model"] = str(home / spec.text["model"])
        model = build_model(recipe["name"], task, inputs, recipe["options"])
        if not isinstance(model, cls):
            raise PaSEError(
                f"{home} holds a {type(model).__name__}, not a {cls.__name__}; load it with Model.from_pretrained."
            )
        if shapes is not None:
            model.reference = RidgeReference(task, shapes)
        try:
            model.load_state_dict(load_file(home / _WEIGHTS))
        except Exception as error:
            raise PaSEError(f"{home / _WEIGHTS} does not fit its {_CONFIG}; save the model again.") from error
        model.extraction = extraction
        return model.eval().to(device)


def _occurring(present: Mapping[str, Bool[Tensor, " n"]]) -> list[str]:
    """The modalities that some utterance has; all of them in a graph, which cannot look before it decides."""
    if torch.compiler.is_compiling():
        return list(present)
    found = torch.stack(list(present.values())).any(1).tolist()
    return [name for name, occurs in zip(present, found, strict=True) if occurs]


def build_model(name: str, task: Task, inputs: Mapping[str, InputSpec], options: Mapping[str, Any]) -> Model:
    """A model by its plug-in name."""
    module = plugins.load("models", name)
    config = plugins.configure(module.Config, options, f"The model {name}")
    model: Model = module.build(task, inputs, config)
    model.balancing = getattr(module, "BALANCING", "none")
    model.recipe = {"name": name, "options": {**dataclasses.asdict(config)}}
    return model


def head(width: int, num_classes: int, dropout: float) -> nn.Sequential:
    """The MLP of eq. 14."""
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, num_classes))
