"""From contributions to learning-rate factors (PaSE, eq. 20)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from pase_msa.errors import PaSEError

_log = logging.getLogger(__name__)


class ModulationFactors(dict[str, float]):
    """Modality -> phi in (0, 1], without unit.

    Attributes:
        floored: modalities whose value was not positive and was raised to the floor.
    """

    def __init__(self, factors: Mapping[str, float], floored: Iterable[str] = ()) -> None:
        super().__init__(factors)
        self.floored: tuple[str, ...] = tuple(floored)


def modulation_factors(values: Mapping[str, float], *, floor: float = 1e-2) -> ModulationFactors:
    """`phi_m = exp(psi_min / psi_m - 1)`: 1 for the weakest modality, down to 1/e for others (PaSE, eq. 20).

    Eq. 20 divides by the values, so it means nothing for those that are not positive. They are raised to
    `floor` times the largest value, or to the smallest positive one where that is less (a harmful modality
    never counts as stronger than a useful one); `.floored` names them and a warning is logged. If no value is
    positive there is nothing to compare and every factor is 1. The factors do not depend on the scale of the
    values, so eq. 20's division by their sum is left out.

    Args:
        values: modality -> Shapley value psi, finite, any unit.
        floor: in (0, 1], as a fraction of the largest value.

    Raises:
        PaSEError: no values, a value that is NaN or infinite, or a floor outside (0, 1].
    """
    if not values:
        raise PaSEError("modulation factors want a value for one or more modalities, and none was found: pass some.")
    for name, value in values.items():
        if not math.isfinite(value):
            raise PaSEError(f"modulation factors want finite values, and {name!r} has {value}: mend its utility.")
    if not 0 < floor <= 1:
        raise PaSEError(f"floor must lie in (0, 1], and {floor} was found: take a small fraction such as 0.01.")
    floored = tuple(name for name, value in values.items() if value <= 0)
    positive = [value for value in values.values() if value > 0]
    if floored:
        _log.warning("values that are not positive were raised to the floor: %s", ", ".join(floored))
    if not positive:
        return ModulationFactors(dict.fromkeys(values, 1.0), floored)
    lowest = min(floor * max(positive), *positive) if floored else min(positive)
    if lowest <= 0:  # the product underflowed
        lowest = min(positive)
    raised = {name: value if value > 0 else lowest for name, value in values.items()}
    return ModulationFactors({name: math.exp(lowest / value - 1.0) for name, value in raised.items()}, floored)
