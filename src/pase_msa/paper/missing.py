"""Further than the paper: training on data that lack modalities, all alike or one of them most often (MissBench).

What an utterance of the training split lacks is drawn once, in the data, so that all methods and seeds learn from the
same incomplete split. Validation and test split stay as they are, and are measured with losses and without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pase_msa.data.table import ARROW, FeatureTable, Utterance
from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import LoadedRun
from pase_msa.evaluation.statistics import estimate
from pase_msa.paper import equity, methods, rates, table4
from pase_msa.paper.balance_tables import LOST, NOTES, balance_table
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.protocol import Options, Protocol
from pase_msa.paper.results import Results
from pase_msa.paper.scores import heading, how_to_read
from pase_msa.paper.subset_methods import letters
from pase_msa.report.numbers import mean_sd, metric_label
from pase_msa.studies.study import held

_SEED = 0  # of what the training split lacks
_COMPLETE = "all there"


@dataclass(frozen=True)
class _Way:
    """A way in which modalities are lost.

    Attributes:
        often: the modality that is lost most often; empty where all are lost alike.
        mean: probability of a loss, the mean over modalities.
        rates: probability by modality.
    """

    often: str
    mean: float
    rates: Mapping[str, float]

    @property
    def words(self) -> str:
        """How it is called in tables."""
        return f"{letters(self.often)} lost most" if self.often else f"all lost at {self.mean:g}"


def variants(protocol: Protocol) -> dict[str, Options]:
    """Concatenation, and both versions of PaSE.

    Errors:
        PaSEError: the data have a single modality, which cannot be lost.
    """
    if len(names := _losable(protocol)) < 2:
        raise PaSEError(f"One of two modalities or more can be lost; {protocol.name} has {', '.join(names) or 'none'}.")
    return {"concat": methods.model("concat"), **methods.both_versions()}


def datasets(protocol: Protocol, root: Path) -> list[str]:
    """The complete data, and a table for each way in which the training split lacks modalities."""
    mark = protocol.table.fingerprint()[:12]
    folders = [str(_complete(protocol, root, mark))]
    for name, way in _ways(protocol).items():
        folder = root / "missing" / mark / name
        if not (folder / ARROW).is_file():
            rows = incomplete(protocol.table, way.rates, _SEED)
            FeatureTable.build(rows, protocol.table.schema, path=folder, meta=protocol.table.meta)
        folders.append(str(folder.resolve()))
    return folders


def incomplete(table: FeatureTable, rate: Mapping[str, float], seed: int) -> Iterator[Utterance]:
    """The rows of a table, those of the training split without what they lose.

    Args:
        table: the data.
        rate: probability of a loss by modality, where transcripts are "text". The last one that an utterance has stays.
        seed: of what is lost.
    """
    rows = table.rows("train")
    there = {name: _has(table, name)[rows] for name in rate}
    left = rates.keep(there, rate, seed, 0)
    lost = {name: set(rows[~flags].tolist()) for name, flags in left.items()}
    for row in range(len(table)):
        utterance = table.utterance(row)
        gone = {name for name, numbers in lost.items() if row in numbers}
        utterance.features = {name: values for name, values in utterance.features.items() if name not in gone}
        if "text" in gone:
            utterance.text = None
        yield utterance


def _has(table: FeatureTable, name: str) -> NDArray[np.bool_]:
    """Whether each row has a modality, as features or as a transcript."""
    features = table.sequences(name).present if name in table.modalities else np.zeros(len(table), dtype=bool)
    texts = table.texts if name == "text" else None
    return features if texts is None else features | np.array([bool(text) for text in texts])


def _losable(protocol: Protocol) -> list[str]:
    """The modalities that lie in the data; what is made of other utterances is lost with these."""
    return [name for name in protocol.modalities if name in held(protocol.table)]


def _ways(protocol: Protocol) -> dict[str, _Way]:
    """The ways in which a training split is made incomplete, by the name of its folder."""
    names = _losable(protocol)
    single = {often[0]: rate for often, rate in rates.imbalanced(names).items() if len(often) == 1}
    mean = round(float(np.mean([list(rate.values()) for rate in single.values()])), 6)
    ways = {f"lost-all-{mean:g}": _Way("", mean, dict.fromkeys(names, mean))}
    return ways | {f"lost-most-{often}": _Way(often, mean, rate) for often, rate in single.items()}


def _complete(protocol: Protocol, root: Path, mark: str) -> Path:
    """Where the complete data are; the synthetic benchmark, which lies nowhere, is written beside the others."""
    if protocol.path is not None:
        return Path(protocol.path)
    folder = root / "missing" / mark / protocol.name
    if not (folder / ARROW).is_file():
        protocol.table.save(folder)
    return folder.resolve()


def measure(run: LoadedRun, ways: Mapping[str, _Way]) -> pd.DataFrame:
    """Metrics of a run where nothing is lost, and where modalities are lost in each way.

    Args:
        run: on one split, trained on the complete data or on one of the incomplete tables.
        ways: by the name of the table's folder.

    Returns:
        The columns of `rates.measure_imbalanced`, and trained_on and measured_with (words for the way, or "all there").
    """
    trained = ways.get(Path(str(run.folder.read_data()["path"])).name)
    whole = rates.measure([run], (0.0,)).assign(often="", measured_with=_COMPLETE)
    lost = rates.measure_imbalanced([run])
    parts = [whole]
    for way in ways.values():
        rows = lost[(lost["often"] == way.often) & np.isclose(lost["rate"], way.mean)]
        parts.append(rows.assign(measured_with=way.words))
    return pd.concat(parts, ignore_index=True).assign(trained_on=_COMPLETE if trained is None else trained.words)


def build(results: Results) -> Section:
    """Scores by what the training split lacked and by what is lost, the balance of the modalities, and a figure.

    Errors:
        PaSEError: no run is finished.
    """
    protocol = results.protocol
    ways = _ways(protocol)
    frames, balances = [], []
    for run in results.runs(results.variants):
        frames.append(measure(run, ways))
        balance = equity.measure(run, table4.measure([run]), protocol.accuracy)
        balances.append(balance.assign(trained_on=frames[-1]["trained_on"].iloc[0]))
    frame, balance = (pd.concat(part, ignore_index=True) for part in (frames, balances))
    both = list(dict.fromkeys([protocol.accuracy, protocol.tested[0]]))
    stems = {name: "" if name == protocol.accuracy else f"-{name}" for name in both}
    alike = frame[frame["trained_on"] == frame["measured_with"]]
    drawn = alike if (alike["measured_with"] != _COMPLETE).any() else frame
    drawn = drawn[drawn["measured_with"] != _COMPLETE]
    caption = f"{' and '.join(map(metric_label, both))}, trained and measured with the same losses."
    return Section(
        f"Missing modalities in training on {protocol.name}",
        [
            *(_scores_table(frame, name, f"missing{stems[name]}") for name in both),
            balance_table(balance, protocol.accuracy, "missing-balance", "trained_on"),
        ],
        [Figure("missing-rates", caption, rates.draw_imbalanced(drawn, *both), drawn)],
        [
            *how_to_read(results)[:1],
            "What the training split lacks is drawn once, for all methods and seeds. The validation split, which "
            "selects the epochs, is complete.",
            *NOTES,
        ],
    )


def _scores_table(frame: pd.DataFrame, metric: str, stem: str) -> Table:
    """One row per training split, method and setting; columns by what is lost when it is measured."""
    values = frame[frame["metric"] == metric]
    measured = list(dict.fromkeys(values["measured_with"]))
    rows, data = [], []
    for group, part in values.groupby(["trained_on", "method", "imputation"], sort=False):
        trained, method, how = map(str, group)
        line = [trained, method, LOST[how]]
        for name in measured:
            # draws of one seed are averaged first: the spread is over seeds
            by_seed = part[part["measured_with"] == name].groupby("seed")["value"].mean()
            line.append(mean_sd(by_seed, metric))
            about = {"trained_on": trained, "method": method, "imputation": how, "measured_with": name}
            data.append({**about, "metric": metric, **vars(estimate(by_seed))})
        rows.append(line)
    order = list(dict.fromkeys(values["trained_on"]))
    rows.sort(key=lambda line: order.index(line[0]))
    title = f"{heading(metric)} by what the training split lacks (rows) and by what is lost afterwards (columns)"
    return Table(stem, title, ["trained on", "method", "how", *measured], rows, pd.DataFrame(data))
