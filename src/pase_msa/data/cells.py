"""CSV files as people and spreadsheets write them: rows of named cells, and what a column of labels holds."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from pase_msa.data.reading import UNKNOWN
from pase_msa.data.table import LabelKind
from pase_msa.errors import PaSEError

#: columns whose names count in any case
COLUMNS = ("id", "video", "split", "clip", "text", "speaker", "path", "start", "end", "timeline")
_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
_MOSTLY = 0.5  # share of numbers in a column from which on the other cells are mistakes
_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)  # a first line by which a spreadsheet names the character
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}


@dataclass(frozen=True)
class Row:
    """One row of a CSV file.

    Attributes:
        line: number of the line where it ends, from 1.
        cells: by column; blanks around them are cut off.
    """

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class CsvFile:
    """A CSV file.

    Attributes:
        path: of the file.
        columns: names, in order.
        rows: those that are not blank.
        left_out: columns without a name that were left out, such as the row numbers that pandas writes.
    """

    path: Path
    columns: list[str]
    rows: list[Row]
    left_out: list[str]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        return [row.cells[name] for row in self.rows]

    def kind(self, name: str) -> LabelKind:
        """Whether a column of labels holds scores or class names.

        Errors:
            PaSEError: nearly all cells are numbers, and one is neither a number nor an unknown value.
        """
        known = [row for row in self.rows if not is_unknown(row.cells[name])]
        others = [row for row in known if not is_number(row.cells[name])]
        if not known:
            return "class"
        if not others:
            return "real"
        if all(re.fullmatch(r"[+-]?\d+,\d+", row.cells[name]) or row not in others for row in known):
            raise PaSEError(
                f"{self.path}, line {others[0].line}: {name} is {others[0].cells[name]!r}, a number with a comma; "
                "write 1.5 for one and a half (no decimal comma) and 1000 for a thousand."
            )
        if 1 - len(others) / len(known) >= _MOSTLY:
            raise PaSEError(
                f"{self.path}, line {others[0].line}: {name} is {others[0].cells[name]!r}, while "
                f"{len(known) - len(others)} of {len(known)} cells of this column are numbers; write a number, or NA "
                "if it is unknown."
            )
        return "class"

    def label(self, row: Row, name: str, kind: LabelKind) -> float | str | None:
        """A label from its cell; None where it is unknown."""
        cell = row.cells[name]
        if is_unknown(cell):
            return None
        return float(cell) if kind == "real" else cell


def is_unknown(cell: str) -> bool:
    """Whether a cell says that the value is not there: blank, NA, N/A, nan, null, - and their like."""
    return cell.strip().lower() in UNKNOWN


def is_number(cell: str) -> bool:
    """Whether a cell is a number as Python, R and spreadsheets write them (no thousands separators)."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def read_csv(path: Path) -> CsvFile:
    """The rows of a CSV file in UTF-8, or UTF-16 with its mark; cells are divided by comma, semicolon, tab or bar.

    Errors:
        PaSEError: another encoding, quotes that do not close, cells beyond the header, columns of one name, or no row.
    """
    text = _decoded(path)
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    header: list[str] | None = None
    rows: list[tuple[int, list[str]]] = []
    began = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if header is None:
                if any(stripped) and not _SEPARATOR.fullmatch(delimiter.join(stripped)):
                    header = stripped
            elif any(stripped):
                rows.append((reader.line_num, stripped))
            began = reader.line_num + 1
    except csv.Error as error:
        raise PaSEError(
            f"{path}, line {began}: a quote does not end, or stands inside a cell ({error}); double quotes inside "
            "quotes, or save the file again as CSV."
        ) from error
    if header is None:
        raise PaSEError(f"{path} is empty; write a header and rows.")
    if not rows:
        raise PaSEError(f"{path} has a header but no rows; add some.")
    return _arranged(path, header, rows)


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PaSEError(
            f"{path}, line {line}: the file is not in UTF-8 (byte {content[error.start]:#04x}); it may be in the "
            "encoding of an older spreadsheet: save it as 'CSV UTF-8'."
        ) from None
    if "\0" in text:
        raise PaSEError(f"{path} holds zero bytes, so it is no text file; save it as 'CSV UTF-8'.")
    return text


def _delimiter(text: str) -> str:
    """The character that divides most cells of the header; the comma where none does."""
    lines = (line for line in text.splitlines() if line.strip() and not _SEPARATOR.fullmatch(line.strip()))
    header = re.sub(r'"[^"]*"', "", next(lines, ""))
    return max(_DELIMITERS, key=lambda mark: (header.count(mark), mark == ","))


def _are_row_numbers(values: list[str]) -> bool:
    """Whether these are what pandas writes in front of the rows of a frame."""
    return values == [str(number) for number in range(len(values))]


def _arranged(path: Path, header: list[str], rows: list[tuple[int, list[str]]]) -> CsvFile:
    for line, cells in rows:
        if any(cells[len(header) :]):
            raise PaSEError(
                f"{path}, line {line}: {len(cells)} cells, but the header names {len(header)} columns; put a text that "
                "holds the dividing character into quotes."
            )
    names: list[str | None] = []
    left_out: list[str] = []
    for i, name in enumerate(header):
        if name.startswith("Unnamed: ") and _are_row_numbers([cells[i] if i < len(cells) else "" for _, cells in rows]):
            left_out.append(f"{name}, a column of row numbers")
            names.append(None)
            continue
        if name:
            names.append(name.lower() if name.lower() in COLUMNS else name)
            continue
        values = [cells[i] if i < len(cells) else "" for _, cells in rows]
        if i == 0 and _are_row_numbers(values):
            left_out.append("a first column of row numbers")
        elif any(values):
            raise PaSEError(f"{path}: column {i + 1} holds values but has no name in the header; give it one.")
        names.append(None)
    known = [name for name in names if name is not None]
    if twice := [name for name in known if known.count(name) > 1]:
        raise PaSEError(f"{path} has two columns called {twice[0]!r}; rename one.")
    if not known:
        raise PaSEError(f"{path} names no column in its header; write one.")
    result = []
    for line, cells in rows:
        padded = cells + [""] * (len(names) - len(cells))
        result.append(Row(line, {n: cell for n, cell in zip(names, padded, strict=False) if n is not None}))
    return CsvFile(path, known, result, left_out)
