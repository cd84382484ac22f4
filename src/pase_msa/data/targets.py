"""The labels of an estimator's `y` as a feature table holds them: scores or class names."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning

from pase_msa.data.conversion import is_missing, numbers_of, to_numpy
from pase_msa.data.table import LabelKind
from pase_msa.errors import PaSEError


@dataclass
class Targets:
    """N labels as a feature table holds them.

    Attributes:
        kind: "real" or "class".
        labels: scores or class names [N].
        meta: of the table: "label_range", or "classes", their names in order.
        classes: the values behind the names, sorted, [K]; None for scores.
    """

    kind: LabelKind
    labels: list[Any]
    meta: dict[str, Any]
    classes: NDArray[Any] | None = None

    def encode(self, y: Any, count: int) -> list[Any]:
        """Further labels [count], encoded like these.

        Errors:
            PaSEError: as `score_targets` and `class_targets`, and for a class that is not among `classes`.
        """
        values = _vector(y, count)
        if self.classes is None:
            return _scores(values)
        names = dict(zip(self.classes.tolist(), self.meta["classes"], strict=True))
        if unknown := [value for value in values.tolist() if value not in names]:
            raise PaSEError(f"The validation y has the class {unknown[0]!r}, which the training y lacks.")
        return [names[value] for value in values.tolist()]


def score_targets(y: Any, count: int, label_range: Sequence[float] | None = None) -> Targets:
    """Scores [count] in a range.

    Without `label_range` it is the range of y, rounded outwards where it spans 1 or more.

    Errors:
        PaSEError: y is not [count], holds no numbers, NaN or infinity, or is the same everywhere; a range
            that is not (low, high).
    """
    scores = _scores(_vector(y, count))
    if label_range is None:
        low, high = min(scores), max(scores)
        if low == high:
            raise PaSEError(
                f"Every value of y is {low:g}, of {count} sample{'s' * (count != 1)}; a regression needs two different "
                "ones or more."
            )
        if high - low >= 1:
            low, high = math.floor(low), math.ceil(high)
    elif len(label_range) == 2 and label_range[0] < label_range[1]:
        low, high = (float(bound) for bound in label_range)
    else:
        raise PaSEError(f"label_range is the pair (low, high) with low < high, found {label_range}.")
    return Targets("real", scores, {"label_range": [low, high]})


def class_targets(y: Any, count: int) -> Targets:
    """Classes [count] of any kind that sorts; `str` gives their names.

    Errors:
        PaSEError: y is not [count], a value is missing, values do not sort, or there is one class only.
    """
    values = _vector(y, count)
    if missing := sum(map(is_missing, values.tolist())):
        raise PaSEError(f"{missing} of {count} values of y are missing; leave these samples out.")
    try:
        classes, numbers = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise PaSEError("The classes in y must be of one kind, all strings or all numbers.") from error
    # levels such as 0.5 and 1.5 are classes, but not fractions of which nearly all differ
    if values.dtype.kind == "f" and (values % 1 != 0).any() and len(classes) > count // 2:
        raise PaSEError(
            "Unknown label type: continuous. Classes are names or whole numbers; use PaSERegressor for scores."
        )
    if len(classes) < 2:
        raise PaSEError(
            f"Every value of y is {classes[0]}, of {count} sample{'s' * (count != 1)}, which is one class; a "
            "classifier needs two classes or more."
        )
    names = [str(value) for value in classes.tolist()]
    return Targets("class", [names[number] for number in numbers], {"classes": names}, classes)


def _vector(y: Any, count: int) -> NDArray[Any]:
    if y is None:
        raise PaSEError("This estimator requires y to be passed, but the target y is None; give a value per sample.")
    values = to_numpy(y, "y", objects=True)
    if values.shape == (count, 1):
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected; its one column is taken.",
            DataConversionWarning,
            stacklevel=4,
        )
        values = values[:, 0]
    if values.ndim != 1 or len(values) != count:
        raise PaSEError(f"y must hold one value per sample, {count} here, found the shape {values.shape}.")
    return values


def _scores(values: NDArray[Any]) -> list[float]:
    try:
        scores = numbers_of(values).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise PaSEError(f"y must hold numbers, found {values.dtype}; use PaSEClassifier for names.") from error
    if bad := int((~np.isfinite(scores)).sum()):
        raise PaSEError(f"{bad} of {len(scores)} values of y are NaN or infinite; leave these samples out.")
    return [float(score) for score in scores]
