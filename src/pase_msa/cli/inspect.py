"""`pase inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pase_msa.data.table import FeatureTable
    from pase_msa.task import Task


def inspect(file: str, *, format: str | None = None, label: str | None = None, json: bool = False) -> None:
    """Show what data hold, and what is wrong with them.

    Args:
        file: file or folder in any format that PaSE reads.
        format: name of the reader; found from the content if left out.
        label: label column, or several divided by commas, to say which task would be trained on each.
        json: print one JSON object instead of tables.
    """
    from pase_msa.data import open_table
    from pase_msa.data.inspect import inspect_table, render
    from pase_msa.files import strict_json
    from pase_msa.targets.names import target_names

    table = open_table(file, format=format)
    tasks = [_task(table, name) for name in target_names(label)]
    report = inspect_table(table)
    if json:
        dicts = [task.to_dict() for task in tasks]
        more = {"task": dicts[0]} if len(dicts) == 1 else {"tasks": dicts}
        print(strict_json({**report, **more} if dicts else report))
        return
    print(render(report))
    if tasks:
        print()
    for task in tasks:
        print(f"task: {_words(task)}")


def _task(table: FeatureTable, label: str) -> Task:
    """What `pase train --label` would train on."""
    from pase_msa.data.inputs import infer_task

    if not len(table.rows("train")):
        table = table.with_splits(["train"] * len(table), "all rows")
    # data without features are trained on their transcripts
    return infer_task(table, list(table.modalities) or ["text"], label)


def _words(task: Task) -> str:
    if task.values is None:
        return f"classification of {task.label!r} into {len(task.classes)} classes: {', '.join(task.classes)}"
    low, high = task.values[0], task.values[-1]
    return f"regression of {task.label!r} from {low:g} to {high:g}, over {len(task.classes)} ordered classes"
