"""A synthetic benchmark with a known contribution of every modality and a known best score.

    spec = SyntheticSpec({"text": ModalitySpec(noise=0.5), "audio": ModalitySpec()})
    table = synthetic_table(spec)                       # data, as `open_table` gives them
    true_contributions(spec, table=table)               # what each modality is worth: exact Shapley values, in nats
    bayes_score(spec, table, table.rows("test"), frozenset({"text"}))    # the best scores that text allows

`spec` holds the options, `generate` the model that the data are drawn from, `posterior` its exact Bayes rule, and
`ground_truth` what follows from that. Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pase_msa.data.synthetic.generate import synthetic_table
    from pase_msa.data.synthetic.ground_truth import bayes_score, true_contributions
    from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec

__all__ = ["ModalitySpec", "SyntheticSpec", "bayes_score", "synthetic_table", "true_contributions"]

_LAZY = {
    "ModalitySpec": "spec",
    "SyntheticSpec": "spec",
    "bayes_score": "ground_truth",
    "synthetic_table": "generate",
    "true_contributions": "ground_truth",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
