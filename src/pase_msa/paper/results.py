"""The finished cells of one table or figure, and the run folders behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import LoadedRun, load_run
from pase_msa.files import read_json
from pase_msa.paper.protocol import Protocol
from pase_msa.training.run_folder import RunFolder


class Results:
    """The results of the study behind one table or figure.

    A cell is one training run of the study: a method (variant) on one data set with one seed.

    Args:
        protocol: data, split and seeds.
        table: of `run_cells`, with the cells of this table or figure only.
        root: folder of the study, where the run folders are.
        name: of the table or figure.

    Attributes:
        done: the finished cells.
        failed: those that failed.
    """

    def __init__(self, protocol: Protocol, table: pd.DataFrame, root: Path, name: str) -> None:
        self.protocol, self.root, self.name = protocol, root, name
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
        """A metric on the protocol's split, one value per seed: the mean over data sets, where there are several."""
        column = f"{self.protocol.split}/{metric}"
        if column not in self.done:
            return []
        return [float(value) for value in self.rows(variant).groupby("seed")[column].mean().dropna()]

    def folders(self, variant: str) -> dict[int, Path]:
        """Run folders of a method by seed, of the last of several data sets; empty for a method that is not trained."""
        return {seed: folds[-1] for seed, folds in self.folds(variant).items()}

    def folds(self, variant: str) -> dict[int, list[Path]]:
        """Run folders of a method by seed, one per data set; empty for a method that is solved and not trained."""
        if "run" not in self.done:
            return {}
        rows = self.rows(variant).dropna(subset=["run"])
        return {int(seed): [self.root / str(run) for run in part["run"]] for seed, part in rows.groupby("seed")}

    def count(self, variant: str) -> int | None:
        """Test utterances that a method was evaluated on, of all folds; None where the test split was not evaluated."""
        folds = list(self.folds(variant).values())
        if self.protocol.split != "test" or not folds:
            return None
        # a cell may have failed
        whole = max(folds, key=len)
        return sum(int(read_json(RunFolder(folder).evaluation)["count"]) for folder in whole)

    def runs(self, variants: Sequence[str], *, first: bool = False) -> Iterator[LoadedRun]:
        """The runs of some methods, one in memory at a time.

        Args:
            variants: methods.
            first: whether to open the first seed only.

        Errors:
            PaSEError: none of the methods has a finished run.
        """
        empty = True
        for variant in variants:
            trained = self.rows(variant).dropna(subset=["run"]) if "run" in self.done else self.done.iloc[:0]
            for row in trained.head(1 if first else len(trained)).itertuples():
                empty = False
                # the protocol's own table is open already
                data = self.protocol.table if row.data == self.protocol.name else None
                yield load_run(self.root / str(row.run), self.protocol.split, method=variant, data=data)
        if empty:
            of = f" of {', '.join(variants)}" if variants else ""
            raise PaSEError(f"No run{of} is finished, so {self.name} cannot be made; train its variants first.")

    def each_run(
        self, variants: Sequence[str], measure: Callable[[Sequence[LoadedRun]], pd.DataFrame], *, first: bool = False
    ) -> pd.DataFrame:
        """The data frames that `measure` gives for each of `runs`, below each other.

        Errors:
            PaSEError: as in `runs`.
        """
        return pd.concat([measure([run]) for run in self.runs(variants, first=first)], ignore_index=True)
