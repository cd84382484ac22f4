"""The feature table: one row per utterance, one ragged column per modality, in memory-mapped Arrow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pase_msa.data.batches import note_rounding, record_batches
from pase_msa.data.columns import Array, SequenceColumn
from pase_msa.data.guard import reading
from pase_msa.data.integrity import checksum, validate_stream
from pase_msa.errors import PaSEError
from pase_msa.files import check_out, replacing, write_json
from pase_msa.locks import locked

if TYPE_CHECKING:
    from pase_msa.data.streaming import Streamed

SPLITS = ("train", "valid", "test")
ARROW, META = "table.arrow", "table.json"
_RESERVED = ("id", "video", "split", "text")
_LONGEST_NAME = 200
LabelKind = Literal["real", "class"]


@dataclass
class Utterance:
    """One row. An absent modality is None (or left out); an unknown label is None.

    Attributes:
        id: unique in the table.
        video: what the utterance was cut from; splits never share one.
        split: "train", "valid", "test", or "" where the data define none.
        labels: label name -> real value or class name.
        features: modality name -> frames [T, D] or one vector [D].
        text: transcript, if any.
        speaker: who speaks, if known, by a name that holds within the video.
    """

    id: str
    video: str
    split: str
    labels: Mapping[str, float | str | None] = field(default_factory=dict)
    features: Mapping[str, Array | None] = field(default_factory=dict)
    text: str | None = None
    speaker: str | None = None


@dataclass
class Schema:
    """Columns of a table.

    Attributes:
        modalities: modality name -> feature size.
        labels: label name -> "real" or "class".
        text: whether there is a transcript column.
        speakers: whether there is a column of speakers.
    """

    modalities: dict[str, int]
    labels: dict[str, LabelKind]
    text: bool = False
    speakers: bool = False

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Refuse names and sizes that no table can have; readers fill a schema step by step.

        Errors:
            PaSEError: a name that is empty, long, taken or not printable; a size or a kind that does not exist.
        """
        for name in (*self.modalities, *self.labels):
            if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME or not name.isprintable():
                raise PaSEError(
                    f"A column's name has 1 to {_LONGEST_NAME} printable characters, found {str(name)[:200]!r}; "
                    "rename it."
                )
        for name, size in self.modalities.items():
            if not isinstance(size, int | np.integer) or size < 1:
                raise PaSEError(f"Modality {name!r} needs a feature size of 1 or more, found {size!r}.")
        if odd := [kind for kind in self.labels.values() if kind not in get_args(LabelKind)]:
            raise PaSEError(f"A label is 'real' or 'class', not {odd[0]!r}.")
        # Arrow's columns of features have a prefix, so "text" may be both, and MFN's files call a modality "video"
        taken = {*_RESERVED, *self.labels} - {"text", "video"}
        for name in self.labels:
            if name in _RESERVED:
                raise PaSEError(f"A label column cannot be called {name!r}, which the table uses; rename it.")
        if clash := [name for name in self.modalities if name in taken]:
            raise PaSEError(f"Modality {clash[0]!r} has the name of another column; rename one of them.")

    def arrow(self) -> pa.Schema:
        """The Arrow schema. Feature columns carry the prefix "features." and are flattened frames."""
        fields = [pa.field(name, pa.string()) for name in ("id", "video", "split")]
        fields += [
            pa.field(f"labels.{name}", pa.float64() if kind == "real" else pa.string())
            for name, kind in self.labels.items()
        ]
        fields += [pa.field(f"features.{name}", pa.list_(pa.float32())) for name in self.modalities]
        if self.text:
            fields.append(pa.field("text", pa.string()))
        if self.speakers:
            fields.append(pa.field("speaker", pa.string()))
        return pa.schema(fields)

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> Schema:
        """The schema that fits utterances in memory: sizes and kinds follow from the first values that are there."""
        dims: dict[str, int] = {}
        kinds: dict[str, LabelKind] = {}
        text = speakers = False
        for row in utterances:
            text = text or row.text is not None
            speakers = speakers or row.speaker is not None
            for name, value in row.features.items():
                if value is not None and name not in dims:
                    dims[name] = int(np.shape(value)[-1])
            for name, label in row.labels.items():
                if label is not None and name not in kinds:
                    kinds[name] = "class" if isinstance(label, str) else "real"
        return cls(dims, kinds, text, speakers)


class FeatureTable:
    """A table of utterances.

    Open one with `pase_msa.data.open_table` (any published format), build one with `FeatureTable.build`.

    Attributes:
        dataset: the Hugging Face `datasets.Dataset` beneath, memory-mapped where the table lies on disk.
        schema: modalities with their sizes, labels with their kinds, whether there are text and speakers.
        meta: source, format and notes of the reader. `meta["synthetic"]` marks generated data, `meta["extraction"]`
            holds the record of how the features were extracted (`pase_msa.data.extraction`).
        streamed: what is known of the whole table where this one holds a part of it (`pase_msa.data.streaming`).
    """

    streamed: Streamed | None = None

    def __init__(self, dataset: datasets.Dataset, schema: Schema, meta: dict[str, Any]) -> None:
        self.dataset = dataset
        self.schema = schema
        self.meta = meta
        self._columns: dict[str, SequenceColumn] = {}
        self.ids: list[str] = self._strings("id")
        self.videos: list[str] = self._strings("video")
        self.splits: NDArray[np.str_] = np.array(self._strings("split"), dtype=str)
        if not self.ids:
            raise PaSEError("A feature table needs one utterance or more, found none.")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise PaSEError(f"Utterance ids must be unique, but {twice!r} stands there twice; rename one.")

    def _strings(self, name: str) -> list[str]:
        return [value or "" for value in self.dataset.data.column(name).to_pylist()]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> dict[str, int]:
        """Modality name -> feature size. Text that comes as transcripts only is not among them."""
        return self.schema.modalities

    @property
    def texts(self) -> list[str | None] | None:
        """Transcripts, one (or None) per row; None where the table has no text column."""
        return self.dataset.data.column("text").to_pylist() if self.schema.text else None

    @property
    def speakers(self) -> list[str | None] | None:
        """Speakers, one (or None) per row; None where the table has no such column."""
        return self.dataset.data.column("speaker").to_pylist() if self.schema.speakers else None

    def sequences(self, modality: str) -> SequenceColumn:
        """The ragged column of a modality.

        Errors:
            PaSEError: the table has no such modality.
        """
        if modality not in self.schema.modalities:
            raise PaSEError(
                f"The table has the modalities {', '.join(self.schema.modalities) or 'none'}, "
                f"not {modality!r}; name one of these."
            )
        if modality not in self._columns:
            column = self.dataset.data.column(f"features.{modality}")
            self._columns[modality] = SequenceColumn.from_arrow(column, self.schema.modalities[modality])
        return self._columns[modality]

    def labels(self, name: str) -> list[Any]:
        """Values of a label column, one per row: floats or class names, None where unknown.

        Errors:
            PaSEError: the table has no such label.
        """
        if name not in self.schema.labels:
            raise PaSEError(
                f"The table has the labels {', '.join(self.schema.labels) or 'none'}, not {name!r}; name one of these."
            )
        values: list[Any] = self.dataset.data.column(f"labels.{name}").to_pylist()
        if self.schema.labels[name] == "real":
            return [None if value is None or not np.isfinite(value) else value for value in values]
        return values

    def rows(self, split: str) -> NDArray[np.int64]:
        """Numbers of the rows in a split, ascending, int64 [n]; empty where there is no such split."""
        return np.flatnonzero(self.splits == split).astype(np.int64)

    def check_splits(self) -> None:
        """Refuse splits that share a video, and an unknown split name."""
        if unknown := set(self.splits.tolist()) - {"", *SPLITS}:
            raise PaSEError(f"Splits are called {', '.join(SPLITS)}; the table has {sorted(unknown)[0]!r}; rename it.")
        split_of: dict[str, str] = {}
        for video, split in zip(self.videos, self.splits.tolist(), strict=True):
            if split and split_of.setdefault(video, split) != split:
                raise PaSEError(
                    f"Video {video!r} is in both the {split_of[video]} and the {split} split, so results would "
                    "be too good; put all its utterances in one split."
                )

    def nonfinite(self) -> dict[str, dict[str, int]]:
        """NaN and infinite values by modality: {"values": ..., "rows": ..., "total": ...}, the counts."""
        report = {}
        for name in self.schema.modalities:
            column = self.sequences(name)
            bad = rows = total = 0
            for row in np.flatnonzero(column.present):
                frames = column[int(row)]
                assert frames is not None
                count = int(frames.size - np.isfinite(frames).sum())
                bad, rows, total = bad + count, rows + bool(count), total + frames.size
            report[name] = {"values": bad, "rows": rows, "total": total}
        return report

    def fingerprint(self) -> str:
        """sha256 over every column's content: the same data give the same fingerprint, however stored.

        A part of a table that is streamed has the fingerprint of the whole.
        """
        if self.streamed is not None:
            return self.streamed.fingerprint
        digest = hashlib.sha256(json.dumps([self.schema.modalities, self.schema.labels]).encode())
        for name in self.dataset.data.column_names:
            if name.startswith("features."):
                column = self.sequences(name.removeprefix("features."))
                digest.update(column.lengths.tobytes())
                for row in np.flatnonzero(column.present):
                    digest.update(np.ascontiguousarray(column[int(row)]).tobytes())
            else:
                digest.update(json.dumps(self.dataset.data.column(name).to_pylist()).encode())
        return digest.hexdigest()

    def with_splits(self, splits: Sequence[str], note: str) -> FeatureTable:
        """The same rows in other splits, without a copy of the features.

        Args:
            splits: of each row.
            note: what was done, for `meta["notes"]`.
        """
        arrow = self.dataset.data.table
        place = arrow.column_names.index("split")
        changed = arrow.set_column(place, arrow.schema.field("split"), pa.array(list(splits), pa.string()))
        meta = {**self.meta, "notes": [*self.meta.get("notes", ()), note]}
        return FeatureTable(datasets.Dataset(datasets.table.InMemoryTable(changed)), self.schema, meta)

    def select(self, rows: Iterable[int]) -> FeatureTable:
        """A table in memory of some rows, in the order given."""
        chosen = (self.utterance(int(row)) for row in rows)
        return FeatureTable.build(chosen, self.schema, meta=dict(self.meta))

    def utterance(self, row: int) -> Utterance:
        """One row, with its features as views."""
        return Utterance(
            self.ids[row],
            self.videos[row],
            str(self.splits[row]),
            {name: self.dataset.data.column(f"labels.{name}")[row].as_py() for name in self.schema.labels},
            {name: self.sequences(name)[row] for name in self.schema.modalities},
            self.dataset.data.column("text")[row].as_py() if self.schema.text else None,
            self.dataset.data.column("speaker")[row].as_py() if self.schema.speakers else None,
        )

    @classmethod
    def build(
        cls,
        utterances: Iterable[Utterance],
        schema: Schema,
        *,
        path: str | Path | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> FeatureTable:
        """A table from rows: in memory, or streamed to the folder `path`, which is written whole or not at all.

        Errors:
            PaSEError: a row does not fit the schema (the sentence names row, modality and shape).
        """
        content = dict(meta or {})
        schema.check()
        arrow_schema = schema.arrow()
        rounded: dict[str, float] = {}
        rows = record_batches(utterances, schema, arrow_schema, rounded)
        if path is None:
            table = pa.Table.from_batches(list(rows), arrow_schema)
            note_rounding(content, rounded)
            return cls(datasets.Dataset(datasets.table.InMemoryTable(table)), schema, content)
        return cls.write(rows, schema, Path(path), content, lambda meta: note_rounding(meta, rounded))

    @classmethod
    def write(
        cls,
        batches: Iterable[pa.RecordBatch],
        schema: Schema,
        folder: Path,
        meta: Mapping[str, Any],
        finish: Callable[[dict[str, Any]], None] = lambda meta: None,
    ) -> FeatureTable:
        """A table in a folder from batches of its Arrow schema, written whole or not at all.

        Args:
            batches: of rows.
            schema: of the table.
            folder: for it.
            meta: of the table.
            finish: adds to a copy of `meta` what is known once all batches were made.

        Errors:
            PaSEError: the folder holds a table, or the rows are none of a table.
        """
        if (folder / ARROW).exists():
            raise PaSEError(f"{folder} already holds a feature table; give another folder or remove it.")
        check_out(folder, folder=True)
        with locked(folder), replacing(folder / ARROW, unique=True) as partial:
            with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema.arrow()) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            # everything that a table is refused for is found before the table is there
            content = dict(meta)
            finish(content)
            cls(_mapped(partial), schema, content)
            description = {"version": 1, "schema": vars(schema), "meta": content, "checksum": checksum(partial)}
            # the description comes first: a folder is a table once the Arrow file is there
            write_json(folder / META, description)
        return cls.load(folder)

    @classmethod
    def load(cls, path: str | Path) -> FeatureTable:
        """A table from the folder that `build` or `save` wrote, memory-mapped.

        Errors:
            PaSEError: the folder holds no table, or a damaged one.
        """
        folder = Path(path)
        if not (folder / ARROW).exists() or not (folder / META).exists():
            raise PaSEError(f"{folder} was to be a feature table ({ARROW} and {META}); use `pase convert` to make one.")
        with reading(folder, "a feature table", "convert it again"):
            description = json.loads((folder / META).read_text(encoding="utf-8"))
            schema, meta = Schema(**description["schema"]), dict(description["meta"])
            # damage is told from data before any offset in the file is followed
            expected = description.get("checksum")
            if expected is None:  # a table of version 0.1
                validate_stream(folder / ARROW)
            elif expected != checksum(folder / ARROW):
                raise PaSEError(
                    f"The table in {folder} is damaged: {ARROW} is not the file that was written; convert it again."
                )
            dataset = _mapped(folder / ARROW)
            if not dataset.data.schema.equals(schema.arrow()):
                raise PaSEError(f"The table in {folder} is damaged: {META} describes other columns; convert it again.")
            return cls(dataset, schema, meta)

    def save(self, path: str | Path) -> FeatureTable:
        """Write the table to a folder and open it from there."""
        rows = (self.utterance(row) for row in range(len(self)))
        return FeatureTable.build(rows, self.schema, path=path, meta=self.meta)


def _mapped(file: Path) -> datasets.Dataset:
    """The columns of an Arrow stream, memory-mapped."""
    return datasets.Dataset.from_file(str(file))
