"""What numbers an option may be, checked in one way and refused in one sentence."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real

from pase_msa.errors import PaSEError


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`.

    Attributes:
        low: the smallest.
        high: the largest.
        above: whether `low` itself is left out.
        below: whether `high` itself is left out.
        whole: whether only whole numbers count.
    """

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False

    def holds(self, value: object) -> bool:
        """Whether a value is a number of the range."""
        kind = Integral if self.whole else Real  # those of NumPy are among both
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        number = float(value)
        over = number > self.low if self.above else number >= self.low
        return math.isfinite(number) and over and (number < self.high if self.below else number <= self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        return f"in {'(' if self.above else '['}{self.low:.10g}, {self.high:.10g}{')' if self.below else ']'}"


COUNT = Range(1, 2**31 - 1, whole=True)
SIZE = Range(1, 2**16, whole=True)
NOT_NEGATIVE = Range()
POSITIVE = Range(above=True)
SHARE = Range(0, 1)
PROPER_SHARE = Range(0, 1, below=True)


def check_ranges(options: object, group: str, **ranges: Range) -> None:
    """Refuse options that are no number of their range; None is left to the option's type.

    Args:
        options: whose attributes they are.
        group: what stands before an option's name: "training" for training.epochs; "" for nothing.
        ranges: by name of the option.

    Errors:
        PaSEError: the first one that is not; the sentence says its range.
    """
    for name, allowed in ranges.items():
        value = getattr(options, name)
        if value is not None and not allowed.holds(value):
            full = f"{group}.{name}" if group else name
            raise PaSEError(
                f"{full} is a {'whole ' if allowed.whole else ''}number {allowed}, found {value!r}; give such a one."
            )


def check_model(options: object, **further: Range) -> None:
    """`check_ranges` of a model's options: the four that every model has, and `further` ones."""
    check_ranges(
        options,
        "model",
        width=SIZE,
        dropout=PROPER_SHARE,
        class_weight=NOT_NEGATIVE,
        score_weight=NOT_NEGATIVE,
        **further,
    )


def nearest(value: object, names: Iterable[str], otherwise: str) -> str:
    """The end of a sentence about an unknown name: a question for the name nearest to it, else `otherwise`."""
    near = difflib.get_close_matches(str(value), list(names), 1)
    return f"did you mean {near[0]!r}?" if near else otherwise


def one_of(value: object, allowed: Iterable[str], what: str) -> str:
    """The value, if it is among those allowed.

    Errors:
        PaSEError: it is not; the sentence lists them and the nearest one.
    """
    names = list(allowed)
    if value in names:
        return str(value)
    raise PaSEError(
        f"{what} is one of {', '.join(names)}, not {value!r}; {nearest(value, names, 'name one of these.')}"
    )
