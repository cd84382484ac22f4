"""Groups of utterances that figures distinguish: the classes, or the polarity of a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pase_msa.evaluation.loaded import LoadedRun

POLARITY: tuple[str, ...] = ("negative", "neutral", "positive")


def groups(run: LoadedRun) -> tuple[NDArray[np.str_], list[str]]:
    """The group of each utterance by its label, [N], and the groups that occur, in order.

    Regression: negative, neutral (a label at the centre of the range, as the paper groups them) and positive.
    """
    labels = run.labels.numpy()
    if run.task.kind == "regression":
        # the centre in single precision, as the labels are: else a label of exactly the centre may differ from it
        names, numbers = POLARITY, np.sign(labels - np.float32(run.task.center)).astype(np.int64) + 1
    else:
        names, numbers = run.task.classes, labels.astype(np.int64)
    by_utterance = np.array(names)[numbers]
    return by_utterance, [name for name in names if (by_utterance == name).any()]
