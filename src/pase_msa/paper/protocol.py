"""The protocol of a set of tables: the data, the split, the seeds, and the options of every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pase_msa.data.opening import open_data
from pase_msa.data.problem import ProblemOptions, task_from_table
from pase_msa.data.shards import absolute
from pase_msa.data.table import FeatureTable
from pase_msa.metrics import headline
from pase_msa.paper.quoted import quoted
from pase_msa.paper.tuned import Tuned
from pase_msa.report.numbers import SHOWN
from pase_msa.studies.methods import Options
from pase_msa.studies.study import dataset_names
from pase_msa.task import Task

__all__ = ["Options", "Protocol", "TextStyle"]

TextStyle = Literal["frozen", "fine-tuned"]


@dataclass(frozen=True)
class Protocol:
    """One data set and how every method is trained and measured on it.

    Attributes:
        name: of the data.
        path: of the data; None for the synthetic benchmark.
        table: the data.
        seeds: of the runs.
        split: what is measured on: "test", or "valid" where the test split must not be read.
        text: how the text encoder is used.
        base: options of every run.
        language_models: the models that Table 5 asks, and how; see `table5`.
        tuned: options that were chosen on validation for some methods; None leaves all of them their standard ones.
    """

    name: str
    path: str | None
    table: FeatureTable
    seeds: Sequence[int]
    split: Literal["test", "valid"] = "test"
    text: TextStyle = "frozen"
    base: Mapping[str, Any] = field(default_factory=dict)
    language_models: Mapping[str, Any] = field(default_factory=dict)
    tuned: Tuned | None = None

    @classmethod
    def of(cls, path: str | None, seeds: Sequence[int], **rest: Any) -> Protocol:
        """The protocol on the data at a path; the remaining attributes are passed by name."""
        place = None if path is None else absolute(path)
        base = rest.get("base", {})
        table = open_data(place, base.get("split", "given"), base.get("label"))
        return cls(dataset_names([place])[place], place, table, seeds, **rest)

    @cached_property
    def task(self) -> Task:
        """The task with all modalities that runs may use.

        Errors:
            PaSEError: the data have no label, or no modality.
        """
        return task_from_table(self.table, ProblemOptions.from_mapping(self.base))

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities, in the order of the task."""
        return self.task.modalities

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that a table has as columns."""
        if self.task.kind == "classification":
            return SHOWN["classification"]
        return ("acc2_nonneg", "acc2_negpos", "f1_nonneg", "f1_negpos", "acc7", "mae", "corr")

    @property
    def accuracy(self) -> str:
        """The accuracy that figures plot."""
        return "acc2_negpos" if self.task.kind == "regression" else "accuracy"

    @property
    def f1(self) -> str:
        """The F1 that figures plot."""
        return "f1_negpos" if self.task.kind == "regression" else "f1_weighted"

    @property
    def tested(self) -> tuple[str, ...]:
        """Metrics whose differences are tested: the one that selects epochs, and the accuracy."""
        return (headline(self.task)[0], self.accuracy)

    @property
    def context(self) -> str:
        """What is read around an utterance, see `RunConfig.context`."""
        return str(self.base.get("context", "none"))

    @property
    def quoted(self) -> str | None:
        """The data set whose published results are quoted beside these, found in the name of the data.

        The quoted methods read each utterance by itself, so nothing is quoted beside results with context.
        """
        if self.context != "none":
            return None
        published = sorted(dict.fromkeys(quoted()["dataset"]), key=len, reverse=True)
        return next((name for name in published if name in self.name.lower()), None)

    @property
    def folder(self) -> str:
        """Name of the output folder; another protocol on the same data has another folder."""
        words = [self.name.replace("/", "-")]
        # tables of two labels of the same data must not overwrite each other
        words += [str(self.base["label"]).replace("/", "-")] if self.base.get("label") else []
        words += ["finetuned"] if self.text == "fine-tuned" else []
        words += [f"context-{self.context}"] if self.context != "none" else []
        words += ["tuned"] if self.tuned is not None else []
        words += ["validation"] if self.split == "valid" else []
        return "-".join(words)
