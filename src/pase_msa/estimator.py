"""PaSE in scikit-learn's style: fit, predict, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin

from pase_msa.data.context import ContextMode
from pase_msa.data.modalities import Columns
from pase_msa.data.targets import class_targets, score_targets
from pase_msa.estimator_base import SentimentEstimator


class PaSERegressor(RegressorMixin, SentimentEstimator):  # type: ignore[misc]
    """Sentiment scores from any number of modalities.

        X = {"text": ["so good", ...], "audio": array [N, D], "vision": [array [T, D], None, ...]}
        model = PaSERegressor().fit(X, y, groups=videos)
        model.predict(X), model.contributions(X), model.confidence(X)

    `X` may be a data frame or a matrix, too, whose `columns` make up the modalities. scikit-learn cannot index a
    mapping: for `cross_val_score`, `GridSearchCV` and `train_test_split` wrap it as `pase_msa.Modalities(X)`. Fitting
    leaves the global state of the program as it is: random states, thread count and log levels. Nothing is written but
    cached states of a frozen language model (in `$PASE_CACHE`). NaN and infinite features are replaced by the training
    mean; a sample of nothing but NaN lacks the modality.

    Args:
        modalities: names of those of X to use; None is all of them.
        columns: where X is a data frame or a matrix, the columns of each modality: {"audio": ["pitch", "energy"],
            "text": "said"}, {"audio": slice(0, 10), "vision": range(10, 20)}, or `make_column_selector`. The others are
            not used.
        model: plug-in in `pase_msa.models`, or "package.module:attribute".
        model_options: options of the model.
        encoders: options by modality; the key "default" holds those of every modality without its own.
        text: options of `pase_msa.data.transcripts.TextConfig`, such as {"model": "minilm", "frozen": False}.
        context: "video" or "before" makes a modality of the other samples of a group, or of those before it there;
            `predict` and its like need groups then, too.
        balancing: plug-in in `pase_msa.balancing`; None is the one that goes with the model ("held_out" with PaSE).
        balancing_options: options of the balancing method.
        phases: options of `pase_msa.training.config.PhaseConfig`.
        epochs: largest number of epochs.
        patience: epochs without a better validation metric before training stops.
        batch_size: samples per training step.
        learning_rate: of everything but a fine-tuned language model, which has its own (in `text`).
        training: further options of `pase_msa.training.config.TrainingConfig`, such as {"weight_decay": 0.1}.
        validation_fraction: share of the samples (in whole groups) that selects the epoch, in (0, 1).
        random_state: seed in [0, 2^31), a `RandomState`, or None for NumPy's global one.
        verbose: whether to show progress and log messages.
        num_classes: ordered classes over the range of the scores; None follows from the range.
        label_range: (low, high) of the scores, in label units; None is that of y.

    Attributes:
        model_: the trained `pase_msa.models.base.Model`.
        task_: modalities, classes and their values.
        modalities_in_: names of the modalities in X.
        n_features_in_: number of the columns of X, or of its modalities.
        feature_names_in_: names of the columns of a data frame.
        n_iter_: number of epochs trained.
        history_: one row per epoch: losses, validation metrics, prediction weights "prediction_weight/NAME" and
            learning-rate factors "phi/NAME".
        modality_report_: verdict, prediction weight and contributions of every modality, see
            `pase_msa.heldout.modality_report`; None where the balancing method makes no diagnosis.
    """

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
        num_classes: int | None = None,
        label_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(
            modalities=modalities,
            columns=columns,
            model=model,
            model_options=model_options,
            encoders=encoders,
            text=text,
            context=context,
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

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Sequence[Any] | None = None,
        validation: tuple[Any, Any] | None = None,
    ) -> Self:
        """Train, and keep the weights of the epoch that is best on validation.

        Args:
            X: modality name -> array, tensor or sparse matrix [N, D], array [N, T, D], or list of N arrays [T_i, D] or
                [D]; "text" may be a list of N strings. None, NaN or pd.NA stands where a sample lacks the modality.
                Or a data frame or matrix [N, D], divided by `columns`.
            y: scores in label units, [N].
            groups: [N]; what each sample was cut from (a video, a speaker). The validation split takes whole groups, so
                that it shows what the model predicts for new ones.
            validation: (X, y) to select the epoch on, instead of a share of the samples.

        Returns:
            The estimator itself.

        Errors:
            PaSEError: parameters or data that do not fit; the sentence names them.
        """
        samples = self._read(X)
        targets = score_targets(y, len(samples), self.label_range)
        num_classes = None if self.num_classes is None else int(self.num_classes)
        return self._fit(X, samples, targets, groups, validation, num_classes)

    def predict(self, X: Any, groups: Sequence[Any] | None = None) -> NDArray[np.float64]:
        """Scores in label units, [N].

        Args:
            X: samples as in `fit`. A modality that X lacks is absent from every sample.
            groups: [N]; what each sample was cut from. Only models that read the samples of a group together need it.

        Errors:
            PaSEError: modalities or features of another kind than in training, or no sample with any modality.
            NotFittedError: `fit` was not called.
        """
        probabilities = self._logits(X, groups).softmax(1)
        return self.task_.score(probabilities).double().numpy()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination R² of the predicted scores; 1 is perfect, 0 as good as the mean.

        Args:
            X: samples as in `fit`.
            y: the truth, [N].
            sample_weight: [N]; all samples weigh the same if left out.
        """
        return float(super().score(X, y, sample_weight))

    def confidence(self, X: Any, groups: Sequence[Any] | None = None) -> NDArray[np.float64]:
        """Calibrated probability that the polarity of the score (its sign around the centre) is right, [N].

        Args:
            X: samples as in `fit`. A modality that X lacks is absent from every sample.
            groups: [N]; what each sample was cut from. Only models that read the samples of a group together need it.

        Errors:
            PaSEError: modalities or features of another kind than in training, or no sample with any modality.
            NotFittedError: `fit` was not called.
        """
        return self._confidence(X, groups)

    def contributions(self, X: Any, groups: Sequence[Any] | None = None) -> dict[str, NDArray[np.float64]]:
        """How much each modality moved each score: its Shapley value in label units, by modality, [N].

        The values of a sample add up to its score minus the score without any modality. An absent modality has 0.

        Args:
            X: samples as in `fit`. A modality that X lacks is absent from every sample.
            groups: [N]; what each sample was cut from. Only models that read the samples of a group together need it.

        Errors:
            PaSEError: modalities or features of another kind than in training, or no sample with any modality.
            NotFittedError: `fit` was not called.
        """
        return self._contributions(X, groups)

    def save(self, folder: str | Path) -> Path:
        """Write the fitted model to a folder, from which `pase_msa.PaSE.from_pretrained` loads it.

        Args:
            folder: made where it is missing.

        Returns:
            The folder.
        """
        return self._save(folder)


class PaSEClassifier(ClassifierMixin, SentimentEstimator):  # type: ignore[misc]
    """Emotion or sentiment classes from any number of modalities.

        X = {"text": ["so good", ...], "audio": array [N, D], "vision": [array [T, D], None, ...]}
        model = PaSEClassifier().fit(X, y, groups=videos)
        model.predict(X), model.predict_proba(X), model.contributions(X)

    What `PaSERegressor` says about `X`, global state and missing numbers holds here too.

    Args:
        modalities: names of those of X to use; None is all of them.
        columns: where X is a data frame or a matrix, the columns of each modality: {"audio": ["pitch", "energy"],
            "text": "said"}, {"audio": slice(0, 10), "vision": range(10, 20)}, or `make_column_selector`. The others are
            not used.
        model: plug-in in `pase_msa.models`, or "package.module:attribute".
        model_options: options of the model.
        encoders: options by modality; the key "default" holds those of every modality without its own.
        text: options of `pase_msa.data.transcripts.TextConfig`, such as {"model": "minilm", "frozen": False}.
        context: "video" or "before" makes a modality of the other samples of a group, or of those before it there;
            `predict` and its like need groups then, too.
        balancing: plug-in in `pase_msa.balancing`; None is the one that goes with the model ("held_out" with PaSE).
        balancing_options: options of the balancing method.
        phases: options of `pase_msa.training.config.PhaseConfig`.
        epochs: largest number of epochs.
        patience: epochs without a better validation metric before training stops.
        batch_size: samples per training step.
        learning_rate: of everything but a fine-tuned language model, which has its own (in `text`).
        training: further options of `pase_msa.training.config.TrainingConfig`, such as {"weight_decay": 0.1}.
        validation_fraction: share of the samples (in whole groups) that selects the epoch, in (0, 1).
        random_state: seed in [0, 2^31), a `RandomState`, or None for NumPy's global one.
        verbose: whether to show progress and log messages.

    Attributes:
        classes_: the classes, sorted, [K].
        model_: the trained `pase_msa.models.base.Model`.
        task_: modalities, classes and their values.
        modalities_in_: names of the modalities in X.
        n_features_in_: number of the columns of X, or of its modalities.
        feature_names_in_: names of the columns of a data frame.
        n_iter_: number of epochs trained.
        history_: one row per epoch: losses, validation metrics, prediction weights "prediction_weight/NAME" and
            learning-rate factors "phi/NAME".
        modality_report_: verdict, prediction weight and contributions of every modality, see
            `pase_msa.heldout.modality_report`; None where the balancing method makes no diagnosis.
    """

    classes_: NDArray[Any]

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Sequence[Any] | None = None,
        validation: tuple[Any, Any] | None = None,
    ) -> Self:
        """Train, and keep the weights of the epoch that is best on validation.

        Args:
            X: modality name -> array, tensor or sparse matrix [N, D], array [N, T, D], or list of N arrays [T_i, D] or
                [D]; "text" may be a list of N strings. None, NaN or pd.NA stands where a sample lacks the modality.
                Or a data frame or matrix [N, D], divided by `columns`.
            y: classes of any kind that sorts (strings, numbers, booleans), [N].
            groups: [N]; what each sample was cut from (a video, a speaker). The validation split takes whole groups, so
                that it shows what the model predicts for new ones.
            validation: (X, y) to select the epoch on, instead of a share of the samples.

        Returns:
            The estimator itself.

        Errors:
            PaSEError: parameters or data that do not fit; the sentence names them.
        """
        samples = self._read(X)
        targets = class_targets(y, len(samples))
        self._fit(X, samples, targets, groups, validation)
        assert targets.classes is not None
        self.classes_ = targets.classes
        return self

    def predict(self, X: Any, groups: Sequence[Any] | None = None) -> NDArray[Any]:
        """Classes, [N]; of the kind of y in `fit`.

        Args:
            X: samples as in `fit`. A modality that X lacks is absent from every sample.
            groups: [N]; what each sample was cut from. Only models that read the samples of a group together need it.

        Errors:
            PaSEError: modalities or features of another kind than in training, or no sample with any modality.
            NotFittedError: `fit` was not called.
        """
        numbers = self._logits(X, groups).argmax(1).numpy()
        return np.asarray(self.classes_[numbers])

    def predict_proba(self, X: Any, groups: Sequence[Any] | None = None) -> NDArray[np.float64]:
        """Class probabilities (eq. 14), [N, K], in the order of `classes_`.

        They are not calibrated; `confidence` has the calibrated probability of the predicted class.

        Args:
            X: samples as in `fit`. A modality that X lacks is absent from every sample.
            groups: [N]; what each sample was cut from. Only models that read the samples of a group together need it.

        Errors:
            PaSEError: modalities or features of another kind than in training, or no sample with any modality.
            NotFittedError: `fit` was not called.
        """
        return self._logits(X, groups).double().softmax(1).numpy()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy of the predicted classes, in [0, 1].

        Args:
            X: samples as in `fit`.
            y: the truth, [N].
            sample_weight: [N]; all samples weigh the same if left out.
        """
        return float(super().score(X, y, sample_weight))

    def confidence(self, X: Any, groups: Sequence[Any] | None = None) -> NDArray[np.float64]:
        """Calibrated probability that the predicted class is right, [N].

        Args:
            X: samples as in `fit`. A modality that X lacks is absent from every sample.
            groups: [N]; what each sample was cut from. Only models that read the samples of a group together need it.

        Errors:
            PaSEError: modalities or features of another kind than in training, or no sample with any modality.
            NotFittedError: `fit` was not called.
        """
        return self._confidence(X, groups)

    def contributions(self, X: Any, groups: Sequence[Any] | None = None) -> dict[str, NDArray[np.float64]]:
        """How much each modality moved each prediction, by modality, [N].

        That is its Shapley value in the probability of the predicted class. The values of a sample add up to that
        probability minus the one without any modality. That of an absent modality is 0.

        Args:
            X: samples as in `fit`. A modality that X lacks is absent from every sample.
            groups: [N]; what each sample was cut from. Only models that read the samples of a group together need it.

        Errors:
            PaSEError: modalities or features of another kind than in training, or no sample with any modality.
            NotFittedError: `fit` was not called.
        """
        return self._contributions(X, groups)

    def save(self, folder: str | Path) -> Path:
        """Write the fitted model to a folder, from which `pase_msa.PaSE.from_pretrained` loads it.

        Args:
            folder: made where it is missing.

        Returns:
            The folder.
        """
        return self._save(folder)
