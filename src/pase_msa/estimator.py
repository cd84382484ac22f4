"""Scikit-learn style: fit, predict, score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from pase_msa import plugins
from pase_msa.calibration import confidence
from pase_msa.data.arrays import Samples, read_samples, table_from_samples
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.data.holdout import hold_out
from pase_msa.data.table import FeatureTable, LabelKind
from pase_msa.data.targets import Targets, class_targets, score_targets
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


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What the regressor and the classifier share. Parameters are kept as given and looked at by `fit`."""

    model_: Model
    task_: Task
    history_: list[dict[str, float]]
    n_iter_: int
    modality_report_: dict[str, Any] | None
    modalities_in_: tuple[str, ...]
    classes_: NDArray[Any]

    def __init__(
        self,
        *,
        modalities: Sequence[str] | None = None,
        model: str = "pase",
        model_options: Mapping[str, Any] | None = None,
        encoders: Mapping[str, Mapping[str, Any]] | None = None,
        text: Mapping[str, Any] | None = None,
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
        self.model = model
        self.model_options = model_options
        self.encoders = encoders
        self.text = text
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
        tags.input_tags.two_d_array = False
        tags.input_tags.dict = True
        tags.input_tags.allow_nan = True
        return tags

    def fit(
        self,
        X: Mapping[str, Any],
        y: Any,
        groups: Sequence[Any] | None = None,
        validation: tuple[Mapping[str, Any], Any] | None = None,
    ) -> Self:
        """Train, and keep the epoch that is best on validation.

        Args:
            X: modality name -> array [N, D] or [N, T, D], or list of N arrays [T_i, D] or [D] with None where
                the sample lacks the modality; "text" may be a list of N strings.
            y: [N]; scores, or classes of any kind.
            groups: [N]; what each sample was cut from (a video, a speaker). The validation split takes whole
                groups.
            validation: (X, y) to select the epoch on, instead of a share of the samples.

        Errors:
            PaSEError: parameters or data that do not fit; one sentence says which.
        """
        samples = read_samples(X)
        if isinstance(self.modalities, str):
            raise PaSEError(f"modalities is a list of names; write [{self.modalities!r}].")
        used = samples.names if self.modalities is None else tuple(self.modalities)
        for name in used:
            if name in samples.names and not samples.has(name):
                raise PaSEError(f"No sample of X has the modality {name!r}; leave it out.")
        seed = self._seed()
        targets = self._targets(y, len(samples))
        config, labels = self._config(used, targets.kind, seed), targets.labels
        videos = [str(i) for i in range(len(samples))] if groups is None else _names(groups, len(samples))
        if validation is None:
            strata = targets.labels if targets.kind == "class" else None
            held_out = hold_out(videos, self.validation_fraction, seed, strata)
            splits = ["valid" if held else "train" for held in held_out]
        else:
            other, more = self._validation(validation, samples, targets)
            splits = ["train"] * len(samples) + ["valid"] * len(other)
            videos = [f"train {video}" for video in videos] + [f"valid {i}" for i in range(len(other))]
            samples, labels = samples.joined(other), labels + more
        table = table_from_samples(
            samples,
            label=_LABEL,
            kind=targets.kind,
            labels=labels,
            videos=videos,
            splits=splits,
            meta=targets.meta,
        )
        self._train(table, config)
        self.modalities_in_ = samples.names
        if targets.classes is not None:
            self.classes_ = targets.classes
        return self

    def _train(self, table: FeatureTable, config: RunConfig) -> None:
        history = History()
        with preserve_global_state(bool(self.verbose), config.training.threads):
            prepared = prepare(config, table)
            trainer, _ = fit(config, prepared, None, progress=bool(self.verbose), extra=[history])
            model, batch_size = prepared.model, config.training.batch_size
            calibrate(model, prepared.valid, batch_size)
            self.modality_report_ = run_modality_report(
                model,
                prepared.balancing,
                prepared.train,
                prepared.valid,
                epoch=best_weights(trainer).epoch,
                batch_size=batch_size,
            )
        self.model_, self.task_ = model, prepared.task
        self.history_, self.n_iter_ = history.rows, len(history.rows)

    @abstractmethod
    def _targets(self, y: Any, count: int) -> Targets:
        """What is to be learnt from y [count]."""

    def _num_classes(self) -> int | None:
        return None

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _config(self, modalities: Sequence[str], kind: LabelKind, seed: int) -> RunConfig:
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
            seed=seed,
            label=_LABEL,
            kind="regression" if kind == "real" else "classification",
            num_classes=self._num_classes(),
            modalities=list(modalities),
            text=plugins.configure(TextConfig, _plain(self.text), "text"),
            encoders={name: _plain(options) for name, options in (self.encoders or {}).items()},
            model={"name": self.model, **_plain(self.model_options)},
            balancing={
                **({"name": self.balancing} if self.balancing else {}),
                **_plain(self.balancing_options),
            },
            phases=plugins.configure(PhaseConfig, _plain(self.phases), "phases"),
            training=plugins.configure(TrainingConfig, _plain(named | further), "training"),
        )

    def _validation(self, validation: Any, samples: Samples, targets: Targets) -> tuple[Samples, list[Any]]:
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise PaSEError("validation must be the pair (X, y).")
        other = read_samples(validation[0])
        self._same_kind(other, samples.names, "text" in samples.names and samples.text is not None)
        return other, targets.encode(validation[1], len(other))

    @staticmethod
    def _same_kind(samples: Samples, known: Sequence[str], transcripts: bool) -> None:
        """Refuse what training did not see. A modality that is left out is absent."""
        if unknown := [name for name in samples.names if name not in known]:
            raise PaSEError(f"Training knew the modalities {', '.join(known)}, not {unknown[0]!r}; leave it out.")
        if samples.has("text") and transcripts != (samples.text is not None):
            was, now = ("strings", "features") if transcripts else ("features", "strings")
            raise PaSEError(f"X['text'] held {was} in training and holds {now} now; give {was}.")

    def _dataset(self, X: Any) -> UtteranceDataset:
        check_is_fitted(self, "model_")
        samples = read_samples(X)
        spec = self.model_.inputs.get("text")
        if spec is None:  # not among the modalities used: whatever it is, it is not read
            self._same_kind(samples, self.modalities_in_, samples.text is not None)
        else:
            self._same_kind(samples, self.modalities_in_, spec.text is not None)
        dataset = self.model_.dataset(table_from_samples(samples))
        if not any(column.present.any() for column in dataset.columns.values()):
            names = ", ".join(dataset.columns)
            raise PaSEError(f"X holds no sample with any of the modalities {names}; give one or more.")
        return dataset

    def _logits(self, X: Any) -> torch.Tensor:
        """Logits [N, K]."""
        dataset = self._dataset(X)
        return predict_coalitions(self.model_, dataset, [frozenset(self.task_.modalities)])[0]

    def contributions(self, X: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
        """How much each modality moved each prediction: its Shapley value, by modality, [N].

        In label units (regression), or in probability of the predicted class. The values of a sample add up
        to what is predicted less what would be said without any modality; that of an absent one is 0.
        """
        dataset = self._dataset(X)
        found = infer(self.model_, dataset)
        return {name: value.double().numpy() for name, value in found.contributions.items()}

    def confidence(self, X: Mapping[str, Any]) -> NDArray[np.float64]:
        """Calibrated probability that the class, or the score's polarity, is right, [N]."""
        logits = self._logits(X)
        return confidence(self.task_, logits, float(self.model_.temperature)).double().numpy()

    def save(self, folder: str | Path) -> Path:
        """Write the fitted model to a folder, from which `PaSE.from_pretrained` reads it."""
        check_is_fitted(self, "model_")
        return self.model_.save_pretrained(folder)


class PaSERegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """Sentiment scores from any number of modalities.

        X = {"text": ["so good", ...], "audio": array [N, D], "vision": [array [T, D], None, ...]}
        model = PaSERegressor().fit(X, y, groups=videos)
        model.predict(X), model.contributions(X), model.confidence(X)

    `X` is a mapping, which scikit-learn's splitters cannot index: `cross_val_score` and `GridSearchCV` do not
    take it. Fitting leaves no trace: random state, thread count and log levels are as before, and nothing is
    written but cached states of a frozen language model (in `$PASE_CACHE`). NaN and infinite features are
    replaced by the training mean.

    Args:
        modalities: those of X to use; all of them if left out.
        model: plug-in in `pase_msa.models`, or "package.module:attribute".
        model_options: its options.
        encoders: options by modality; the key "default" holds those of every modality without its own.
        text: options of `pase_msa.data.transcripts.TextConfig`, such as {"model": "minilm", "frozen": False}.
        balancing: plug-in in `pase_msa.balancing`; None for what goes with the model ("held_out" with PaSE).
        balancing_options: its options.
        phases: options of `pase_msa.training.config.PhaseConfig`.
        epochs: at most.
        patience: epochs without a better validation metric before training stops.
        batch_size: samples a step.
        learning_rate: of everything but a fine-tuned language model.
        training: further options of `pase_msa.training.config.TrainingConfig`, such as {"weight_decay": 0.1}.
        validation_fraction: share of the samples (in whole groups) that selects the epoch, in (0, 1).
        random_state: seed in [0, 2^31), a `RandomState`, or None for NumPy's global one.
        verbose: show progress and log messages.
        num_classes: ordered classes over the range; None follows from the range.
        label_range: (low, high) of the scores; None reads it off y.

    Attributes:
        model_: the trained `pase_msa.models.base.Model`.
        task_: modalities, classes and their values.
        modalities_in_: names of the modalities in X.
        n_iter_: epochs trained.
        history_: one row an epoch: losses, validation metrics, shares "prediction_weight/...", factors "phi/...".
        modality_report_: what became of every modality, see `pase_msa.heldout.modality_report`; None without a diagnosis.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str] | None = None,
        model: str = "pase",
        model_options: Mapping[str, Any] | None = None,
        encoders: Mapping[str, Mapping[str, Any]] | None = None,
        text: Mapping[str, Any] | None = None,
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
        num_classes: int | None = None,
        label_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(
            modalities=modalities,
            model=model,
            model_options=model_options,
            encoders=encoders,
            text=text,
            balancing=balancing,
            balancing_options=balancing_options,
            phases=phases,
            epochs=epochs,
            patience=patience,
            batch_size=batch_size,
            learning_rate=learning_rate,
            training=training,
            validation_fraction=validation_fraction,
            random_state=random_state,
            verbose=verbose,
        )
        self.num_classes = num_classes
        self.label_range = label_range

    def _targets(self, y: Any, count: int) -> Targets:
        return score_targets(y, count, self.label_range)

    def _num_classes(self) -> int | None:
        return None if self.num_classes is None else int(self.num_classes)

    def predict(self, X: Mapping[str, Any]) -> NDArray[np.float64]:
        """Scores in label units, [N]. A modality that X lacks is absent from every sample."""
        probabilities = self._logits(X).softmax(1)
        return self.task_.score(probabilities).double().numpy()


class PaSEClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """Emotion or sentiment classes from any number of modalities.

    `X`, the parameters (all but `num_classes` and `label_range`) and the attributes are those of
    `PaSERegressor`; classes may be of any kind that sorts.

    Attributes:
        classes_: the classes, sorted, [K].
    """

    def _targets(self, y: Any, count: int) -> Targets:
        return class_targets(y, count)

    def predict_proba(self, X: Mapping[str, Any]) -> NDArray[np.float64]:
        """Class probabilities (eq. 14), [N, K], in the order of `classes_`.

        `confidence` has the calibrated one of the predicted class.
        """
        return self._logits(X).double().softmax(1).numpy()

    def predict(self, X: Mapping[str, Any]) -> NDArray[Any]:
        """Classes, [N]. A modality that X lacks is absent from every sample."""
        numbers = self._logits(X).argmax(1).numpy()
        return np.asarray(self.classes_[numbers])


def _plain(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options with NumPy's scalars (from a parameter grid) as Python's."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in dict(options or {}).items()}


def _names(groups: Any, count: int) -> list[str]:
    values = list(groups)
    if len(values) != count:
        raise PaSEError(f"groups must hold one value a sample, {count} here, found {len(values)}.")
    return [str(value) for value in values]
