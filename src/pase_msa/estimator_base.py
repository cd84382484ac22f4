"""What the two estimators share: parameters that become a run, samples that become a table, and the fitted model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pase_msa import plugins
from pase_msa.calibration import confidence
from pase_msa.data.arrays import Samples, read_samples, table_from_samples
from pase_msa.data.context import ContextMode
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.data.holdout import hold_out
from pase_msa.data.modalities import Columns, from_columns, width
from pase_msa.data.table import FeatureTable, LabelKind
from pase_msa.data.targets import Targets
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.evaluation.inference import infer, predict_coalitions
from pase_msa.models.base import Model
from pase_msa.task import Task
from pase_msa.training.callbacks import History, best_weights
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.isolation import preserve_global_state
from pase_msa.training.results import calibrate, run_modality_report
from pase_msa.training.run import prepare

_LABEL = "label"
_OPTIONS = ("model_options", "encoders", "text", "balancing_options", "phases", "training")


class SentimentEstimator(BaseEstimator):  # type: ignore[misc]
    """The base of `PaSERegressor` and `PaSEClassifier`, which document parameters and attributes.

    As scikit-learn asks, `__init__` keeps the parameters as they are given, and fitting checks them.
    """

    model_: Model
    task_: Task
    history_: list[dict[str, float]]
    n_iter_: int
    modality_report_: dict[str, Any] | None
    modalities_in_: tuple[str, ...]
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    def __init__(
        self,
        *,
        modalities: Sequence[str] | None = None,
        columns: Columns | None = None,
        model: str = "pase",
        model_options: Mapping[str, Any] | None = None,
        encoders: Mapping[str, Mapping[str, Any]] | None = None,
        text: Mapping[str, Any] | None = None,
        context: ContextMode = "none",
        balancing: str | None = None,
        balancing_options: Mapping[str, Any] | None = None,
        phases: Mapping[str, Any] | None = None,
        epochs: int = 60,
        patience: int = 10,
        batch_size: int = 64,
        learning_rate: float = 5e-4,
        training: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.15,
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.modalities = modalities
        self.columns = columns
        self.model = model
        self.model_options = model_options
        self.encoders = encoders
        self.text = text
        self.context = context
        self.balancing = balancing
        self.balancing_options = balancing_options
        self.phases = phases
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.training = training
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.columns is not None
        tags.input_tags.sparse = self.columns is not None
        tags.input_tags.dict = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.non_deterministic = self.random_state is None
        return tags

    def set_params(self, **params: Any) -> Self:
        """Change parameters. `encoders__audio__width=32` changes one entry of a parameter that holds options.

        Args:
            **params: by name; the estimator's other options stay as they are.
        """
        nested = {name: value for name, value in params.items() if name.partition("__")[0] in _OPTIONS and "__" in name}
        super().set_params(**{name: value for name, value in params.items() if name not in nested})
        for name, value in nested.items():
            parameter, *path = name.split("__")
            setattr(self, parameter, _replaced(getattr(self, parameter), path, value))
        return self

    def _read(self, X: Any) -> Samples:
        """X as samples, its columns divided into modalities."""
        return read_samples(from_columns(X, self.columns))

    def _fit(
        self,
        X: Any,
        samples: Samples,
        targets: Targets,
        groups: Any,
        validation: Any,
        num_classes: int | None = None,
    ) -> Self:
        """Train on X, as samples, and their targets; see `fit` of the public classes."""
        config = self._config(samples, targets.kind, num_classes)
        if config.context != "none" and (groups is None or validation is not None):
            raise PaSEError(
                "context is made of the other samples of a group: give groups, and leave validation=(X, y) out."
            )
        table = self._table(samples, targets, groups, validation, config.seed)
        history = History()
        with preserve_global_state(bool(self.verbose), config.training.threads):
            prepared = prepare(config, table)
            trainer, _ = fit(config, prepared, None, progress=bool(self.verbose), extra=[history])
            model, batch_size = prepared.model, config.training.batch_size
            calibrate(model, prepared.valid, batch_size)
            report = run_modality_report(
                model,
                prepared.balancing,
                prepared.train,
                prepared.valid,
                epoch=best_weights(trainer).epoch,
                batch_size=batch_size,
            )
        # set together at the end, so that a failed fit leaves an estimator as it was
        self.model_, self.task_, self.modality_report_ = model, prepared.task, report
        self.history_, self.n_iter_ = history.rows, len(history.rows)
        self.modalities_in_ = samples.names
        self.n_features_in_ = width(X) or len(samples.names)
        self.__dict__.pop("feature_names_in_", None)
        if (names := _column_names(X)) is not None:
            self.feature_names_in_ = names
        return self

    def _table(self, samples: Samples, targets: Targets, groups: Any, validation: Any, seed: int) -> FeatureTable:
        """The samples as a feature table with a training and a validation split."""
        labels = targets.labels
        videos = [str(i) for i in range(len(samples))] if groups is None else _group_names(groups, len(samples))
        if validation is None:
            strata = labels if targets.kind == "class" else None
            held_out = hold_out(videos, self.validation_fraction, seed, strata)
            splits = ["valid" if held else "train" for held in held_out]
        else:
            other, more = self._validation_samples(validation, samples, targets)
            splits = ["train"] * len(samples) + ["valid"] * len(other)
            videos = [f"train {video}" for video in videos] + [f"valid {i}" for i in range(len(other))]
            samples, labels = samples.joined(other), labels + more
        return table_from_samples(
            samples,
            label=_LABEL,
            kind=targets.kind,
            labels=labels,
            videos=videos,
            splits=splits,
            meta=targets.meta,
        )

    def _validation_samples(self, validation: Any, samples: Samples, targets: Targets) -> tuple[Samples, list[Any]]:
        """The samples and labels of the pair (X, y) that selects the epoch."""
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise PaSEError("validation must be the pair (X, y).")
        other = self._read(validation[0])
        _check_same_kind(other, samples.names, "text" in samples.names and samples.text is not None)
        return other, targets.encode(validation[1], len(other))

    def _config(self, samples: Samples, kind: LabelKind, num_classes: int | None) -> RunConfig:
        """The parameters as the configuration of a run."""
        named = {
            "epochs": self.epochs,
            "patience": self.patience,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
        }
        further = dict(self.training or {})
        if clash := sorted(set(further) & set(named)):
            raise PaSEError(f"{clash[0]} is a parameter of its own; take it out of training.")
        return RunConfig(
            seed=self._seed(),
            label=_LABEL,
            kind="regression" if kind == "real" else "classification",
            num_classes=num_classes,
            modalities=list(self._used_modalities(samples)),
            text=plugins.configure(TextConfig, _plain(self.text), "text"),
            encoders={name: _plain(options) for name, options in (self.encoders or {}).items()},
            context=self.context,
            model={"name": self.model, **_plain(self.model_options)},
            balancing={
                **({"name": self.balancing} if self.balancing else {}),
                **_plain(self.balancing_options),
            },
            phases=plugins.configure(PhaseConfig, _plain(self.phases), "phases"),
            training=plugins.configure(TrainingConfig, _plain(named | further), "training"),
        )

    def _used_modalities(self, samples: Samples) -> tuple[str, ...]:
        if isinstance(self.modalities, str):
            raise PaSEError(f"modalities is a list of names; write [{self.modalities!r}].")
        used = samples.names if self.modalities is None else tuple(self.modalities)
        for name in used:
            if name in samples.names and not samples.has(name):
                raise PaSEError(f"No sample of X has the modality {name!r}; leave it out.")
        return used

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _dataset(self, X: Any, groups: Any = None) -> UtteranceDataset:
        """Samples as the input of the fitted model; without groups each of them is by itself."""
        check_is_fitted(self, "model_")
        by_name = hasattr(self, "feature_names_in_") and (hasattr(X, "iloc") or hasattr(X, "to_pandas"))
        if self.columns is not None and not by_name and width(X) != self.n_features_in_:
            if (found := width(X)) is None:
                raise PaSEError(
                    f"X must be of {self.n_features_in_} columns, found the shape {np.asarray(X).shape}. "
                    "Reshape your data: X.reshape(1, -1) is one sample."
                )
            # columns by number would be others than in training
            raise PaSEError(
                f"X has {found} features, but {type(self).__name__} is expecting {self.n_features_in_} features as "
                "input; give the columns of training."
            )
        samples = self._read(X)
        spec = self.model_.inputs.get("text")
        # text that is not among the modalities used may have either form, since it is not read
        transcripts = samples.text is not None if spec is None else spec.text is not None
        _check_same_kind(samples, self.modalities_in_, transcripts)
        videos = None if groups is None else _group_names(groups, len(samples))
        dataset = self.model_.dataset(table_from_samples(samples, videos=videos))
        if not any(column.present.any() for column in dataset.columns.values()):
            names = ", ".join(dataset.columns)
            raise PaSEError(f"X holds no sample with any of the modalities {names}; give one or more.")
        return dataset

    def _logits(self, X: Any, groups: Any = None) -> Float[Tensor, "n k"]:
        dataset = self._dataset(X, groups)
        return predict_coalitions(self.model_, dataset, [frozenset(self.task_.modalities)])[0]

    def _contributions(self, X: Any, groups: Any = None) -> dict[str, NDArray[np.float64]]:
        dataset = self._dataset(X, groups)
        inference = infer(self.model_, dataset)
        return {name: values.double().numpy() for name, values in inference.contributions.items()}

    def _confidence(self, X: Any, groups: Any = None) -> NDArray[np.float64]:
        logits = self._logits(X, groups)
        return confidence(self.task_, logits, float(self.model_.temperature)).double().numpy()

    def _save(self, folder: str | Path) -> Path:
        check_is_fitted(self, "model_")
        return self.model_.save_pretrained(folder)


def _check_same_kind(samples: Samples, names: Sequence[str], transcripts: bool) -> None:
    """Refuse modalities or a form of text that training did not have. A modality that is left out is absent."""
    if unknown := [name for name in samples.names if name not in names]:
        raise PaSEError(f"Training had the modalities {', '.join(names)}, not {unknown[0]!r}; leave it out.")
    if samples.has("text") and transcripts != (samples.text is not None):
        was, now = ("strings", "features") if transcripts else ("features", "strings")
        raise PaSEError(f"X['text'] held {was} in training and holds {now} now; give {was}.")


def _column_names(X: Any) -> NDArray[Any] | None:
    """Names of the columns of a data frame, if all are strings; None for anything else."""
    names = list(X.columns) if hasattr(X, "iloc") and hasattr(X, "columns") else []
    return np.asarray(names, dtype=object) if names and all(isinstance(name, str) for name in names) else None


def _replaced(options: Mapping[str, Any] | None, path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of options in which one entry has another value, since estimators may share the original."""
    name, *rest = path
    old = dict(options or {})
    return old | {name: _replaced(old.get(name), rest, value) if rest else value}


def _plain(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options with NumPy's scalars, which a parameter grid may hold, as Python's."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in dict(options or {}).items()}


def _group_names(groups: Any, count: int) -> list[str]:
    values = list(groups)
    if len(values) != count:
        raise PaSEError(f"groups must hold one value per sample, {count} here, found {len(values)}.")
    return [str(value) for value in values]
