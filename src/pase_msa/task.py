"""What is predicted: modalities and classes, and the maps from labels to classes and from classes to scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pase_msa.errors import PaSEError

Kind = Literal["regression", "classification"]


@dataclass(frozen=True)
class Task:
    """A prediction task over `K` classes.

    A regression task lays `K` ordered classes over its label range; `values[k]` is the label value of class `k`.
    A real label becomes a soft membership of the two neighbouring classes by linear interpolation, and a
    distribution over classes becomes a score by its expectation. The second map is the inverse of the first.
    A classification task has class names only.

    Args:
        kind: "regression" or "classification".
        modalities: names of the modalities, in a fixed order.
        classes: K class names.
        values: K increasing class values (regression), else None.
        label: name of the label column.
    """

    kind: Kind
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    values: tuple[float, ...] | None = None
    label: str = "label"

    def __post_init__(self) -> None:
        if self.kind not in ("regression", "classification"):
            raise PaSEError(f"A task is 'regression' or 'classification', not {self.kind!r}.")
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise PaSEError(f"A task needs one or more distinct modalities, found {list(self.modalities)}.")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise PaSEError(f"A task needs two or more distinct classes, found {list(self.classes)}.")
        if self.kind == "regression":
            ordered = self.values is not None and all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
            if self.values is None or len(self.values) != len(self.classes) or not ordered:
                raise PaSEError(
                    f"A regression task needs one increasing value per class; found values {self.values} "
                    f"for {len(self.classes)} classes."
                )

    @classmethod
    def regression(
        cls,
        modalities: Sequence[str],
        low: float,
        high: float,
        *,
        num_classes: int | None = None,
        label: str = "label",
    ) -> Task:
        """A score in [low, high] over evenly spaced classes.

        Without `num_classes` the classes are the integers of the range where that gives 5 to 11 of them, else 7.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise PaSEError(f"A label range needs low < high, both finite; found [{low}, {high}].")
        if num_classes is None:
            span = high - low
            num_classes = int(span) + 1 if span == int(span) and 4 <= span <= 10 else 7
        if num_classes < 2:
            raise PaSEError(f"num_classes must be 2 or more, found {num_classes}.")
        step = (high - low) / (num_classes - 1)
        values = tuple(low + step * k for k in range(num_classes))
        return cls("regression", tuple(modalities), tuple(f"{v:g}" for v in values), values, label)

    @classmethod
    def classification(cls, modalities: Sequence[str], classes: Sequence[str], *, label: str = "label") -> Task:
        """One of `classes`, which have no order."""
        return cls("classification", tuple(modalities), tuple(classes), None, label)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.classes)

    @property
    def center(self) -> float:
        """The middle of a regression task's range, which divides negative from positive."""
        return 0.0 if self.values is None else (self.values[0] + self.values[-1]) / 2

    def membership(self, labels: Tensor) -> Float[Tensor, "n k"]:
        """Class membership of labels [N]: one-hot, or soft between the two neighbouring class values.

        Labels outside the range belong to the outermost class.
        """
        if self.values is None:
            return torch.nn.functional.one_hot(labels.long(), self.num_classes).float()
        values = _constant(self.values, torch.float32, labels.device)
        clipped = labels.float().clamp(self.values[0], self.values[-1])
        upper = torch.bucketize(clipped, values).clamp(1, self.num_classes - 1)
        share = (clipped - values[upper - 1]) / (values[upper] - values[upper - 1])
        result = clipped.new_zeros(len(labels), self.num_classes)
        result.scatter_(1, (upper - 1).unsqueeze(1), (1 - share).unsqueeze(1))
        return result.scatter_(1, upper.unsqueeze(1), share.unsqueeze(1))

    def frequencies(self, labels: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """Relative frequency of each class among labels; half an utterance is added to each class, so none is 0."""
        counts = self.membership(labels).sum(0) + 0.5
        return counts / counts.sum()

    def score(self, probabilities: Float[Tensor, "*n k"]) -> Float[Tensor, "*n"]:
        """Expectation of the class values under class probabilities (regression only)."""
        if self.values is None:
            raise PaSEError("A classification task has no score; use the class probabilities.")
        return probabilities @ _constant(self.values, probabilities.dtype, probabilities.device)

    def with_modalities(self, modalities: Sequence[str]) -> Task:
        """The same task over other modalities."""
        return dataclasses.replace(self, modalities=tuple(modalities))

    def to_dict(self) -> dict[str, Any]:
        """The task as plain containers, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Task:
        """The task that `to_dict` wrote.

        Errors:
            PaSEError: it did not write this.
        """
        try:
            values = content.get("values")
            return cls(
                content["kind"],
                tuple(content["modalities"]),
                tuple(content["classes"]),
                None if values is None else tuple(values),
                content["label"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise PaSEError(
                f"A task has kind, modalities, classes, values and label; this one is damaged ({error}); save the "
                "model, or evaluate the run, again."
            ) from error


@lru_cache(maxsize=32)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Class values as a tensor, made once, since this runs at every step."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
