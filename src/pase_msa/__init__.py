"""PaSE: multimodal sentiment analysis that survives modality competition.

Names are imported when they are first used, so that `import pase_msa` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pase_msa.alignment import alignment_loss
    from pase_msa.balancing.factors import modulation_factors
    from pase_msa.balancing.sgm import ShapleyModulation
    from pase_msa.batch import Batch, Outputs
    from pase_msa.data.modalities import Modalities
    from pase_msa.data.opening import open_table
    from pase_msa.data.table import FeatureTable
    from pase_msa.errors import PaSEError
    from pase_msa.estimator import PaSEClassifier, PaSERegressor
    from pase_msa.heldout.diagnose import diagnose
    from pase_msa.models.pase import PaSE
    from pase_msa.prototypes import PrototypeBank, calibration_loss
    from pase_msa.shapley import shapley_values
    from pase_msa.task import Task
    from pase_msa.transport import entropic_plan

    __version__: str

__all__ = [
    "Batch",
    "FeatureTable",
    "Modalities",
    "Outputs",
    "PaSE",
    "PaSEClassifier",
    "PaSEError",
    "PaSERegressor",
    "PrototypeBank",
    "ShapleyModulation",
    "Task",
    "__version__",
    "alignment_loss",
    "calibration_loss",
    "diagnose",
    "entropic_plan",
    "modulation_factors",
    "open_table",
    "shapley_values",
]

_LAZY = {
    "Batch": "batch",
    "FeatureTable": "data.table",
    "Modalities": "data.modalities",
    "Outputs": "batch",
    "PaSE": "models.pase",
    "PaSEClassifier": "estimator",
    "PaSEError": "errors",
    "PaSERegressor": "estimator",
    "PrototypeBank": "prototypes",
    "ShapleyModulation": "balancing.sgm",
    "Task": "task",
    "alignment_loss": "alignment",
    "calibration_loss": "prototypes",
    "diagnose": "heldout.diagnose",
    "entropic_plan": "transport",
    "modulation_factors": "balancing.factors",
    "open_table": "data.opening",
    "shapley_values": "shapley",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("pase-msa")
    elif name in _LAZY:
        value = getattr(importlib.import_module(f"pase_msa.{_LAZY[name]}"), name)
    else:
        raise AttributeError(f"module 'pase_msa' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
