"""The finished cells of one table or figure, and the run folders behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import LoadedRun, load_run
from pase_msa.files import read_json
from pase_msa.reproduce.subject import Subject
from pase_msa.training.run_folder import RunFolder


class Results:
    """What the engine found, for one file of the reproduction.

    Args:
        subject: data and protocol.
        table: of `run_cells`, with the cells of this file only.
        home: of the studies, where the run folders are.
        name: of the file.

    Attributes:
        done: the finished cells.
        failed: those that failed.
    """

    def __init__(self, subject: Subject, table: pd.DataFrame, home: Path, name: str) -> None:
        self.subject, self.home, self.name = subject, home, name
        self.done = table[table["status"] == "done"].reset_index(drop=True)
        self.failed = table[table["status"] == "failed"].reset_index(drop=True)

    @property
    def variants(self) -> list[str]:
        """Methods with a finished cell, in order."""
        return list(dict.fromkeys(self.done["variant"]))

    def rows(self, variant: str) -> pd.DataFrame:
        """Finished cells of a method."""
        return self.done[self.done["variant"] == variant]

    def values(self, variant: str, metric: str) -> list[float]:
        """A metric on the subject's split, one value a seed: the mean over data sets, where there are several."""
        column = f"{self.subject.split}/{metric}"
        if column not in self.done:
            return []
        return [float(value) for value in self.rows(variant).groupby("seed")[column].mean().dropna()]

    def folders(self, variant: str) -> dict[int, Path]:
        """Run folders of a method by seed; a method that is solved has none."""
        rows = self.rows(variant).dropna(subset=["run"])
        return {int(row.seed): self.home / str(row.run) for row in rows.itertuples()}

    def count(self, variant: str) -> int | None:
        """Test utterances that a method was evaluated on; None where there is no evaluation, or one a fold."""
        folders = list(self.folders(variant).values())
        if self.subject.split != "test" or not folders or self.done["data"].nunique() > 1:
            return None
        return int(read_json(RunFolder(folders[0]).evaluation)["count"])

    def runs(self, variants: Sequence[str], *, first: bool = False) -> Iterator[LoadedRun]:
        """The runs of some methods, one in memory at a time.

        Args:
            variants: methods.
            first: the first seed only.

        Errors:
            PaSEError: none of the methods has a finished run.
        """
        found = False
        for variant in variants:
            own = self.rows(variant).dropna(subset=["run"])
            for row in own.head(1 if first else len(own)).itertuples():
                found = True
                data = self.subject.table if row.data == self.subject.name else None
                yield load_run(self.home / str(row.run), self.subject.split, method=variant, data=data)
        if not found:
            raise PaSEError(f"No run of {', '.join(variants)} is finished, so {self.name} cannot be made.")

    def each_run(
        self, variants: Sequence[str], measure: Callable[[Sequence[LoadedRun]], pd.DataFrame], *, first: bool = False
    ) -> pd.DataFrame:
        """A measurement, which gives a data frame, of each of `runs`."""
        return pd.concat([measure([run]) for run in self.runs(variants, first=first)], ignore_index=True)
