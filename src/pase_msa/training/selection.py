"""The validation metric by which a run selects its epoch."""

from __future__ import annotations

from typing import Literal

import torch

from pase_msa.errors import PaSEError
from pase_msa.metrics import headline, task_metrics
from pase_msa.ranges import nearest
from pase_msa.task import Task
from pase_msa.training.config import RunConfig

_SMALLER_IS_BETTER = ("mae", "nll", "entropy")


def monitored_metric(config: RunConfig, task: Task) -> tuple[str, Literal["min", "max"]]:
    """Name of the logged validation metric that selects the epoch, and whether a small or a large value is good.

    Errors:
        PaSEError: the task has no metric of the name in `training.monitor`.
    """
    if config.training.monitor == "auto":
        name, mode = headline(task)
        return f"val/{name}", mode
    name = config.training.monitor.removeprefix("val/")
    # the names are those of any result; perfect predictions of every class are the smallest example
    labels = torch.arange(task.num_classes) if task.values is None else torch.tensor(task.values)
    scores = labels if task.kind == "regression" else None
    example = task_metrics(task, torch.eye(task.num_classes), scores, labels, config.convention)
    names = {*example, "entropy", "nll"} - {"per_class"}
    if name not in names:
        raise PaSEError(
            f"training.monitor names a validation metric: auto, {', '.join(sorted(names))}; not {name!r}; "
            f"{nearest(name, names, 'name one of these.')}"
        )
    return f"val/{name}", "min" if name in _SMALLER_IS_BETTER else "max"
