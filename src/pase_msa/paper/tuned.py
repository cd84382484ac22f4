"""Options that a sweep over methods chose on validation, and which rows of the tables take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.studies.methods import PAPER, PASE, Options, balanced, method_options
from pase_msa.studies.study import merge, read_mapping

ABOUT = "about"
"""The key of the file that is no method: how the options were chosen."""


@dataclass(frozen=True)
class Tuned:
    """Options by method, chosen with the same number of trials each.

    Attributes:
        file: that they stand in.
        options: of a run, by method.
        about: "metric" that decided, "trials" by method, and "data", the fingerprint; any may be missing.
    """

    file: str
    options: Mapping[str, Options]
    about: Mapping[str, Any] = field(default_factory=dict)

    def check(self, known: Iterable[str], text: str) -> None:
        """Refuse names that no table knows, and options that contradict a name or the use of the text encoder.

        Args:
            known: names of the methods in the tables that are made; those of `method_options` are known anyway.
            text: "frozen" or "fine-tuned".

        Errors:
            PaSEError: the sentence names the method.
        """
        there = set(known)
        for name, chosen in self.options.items():
            try:
                standard = method_options(name)
            except PaSEError as error:
                if name in there and name != "ridge":
                    continue
                raise PaSEError(f"{self.file} names {name!r}, which no table knows: {error}") from error
            for part in ("model", "balancing"):
                found = (chosen.get(part) or {}).get("name", standard[part]["name"])
                if found != standard[part]["name"]:
                    raise PaSEError(
                        f"{self.file} gives {name!r} the {part} {found!r}, whose {part} is {standard[part]['name']!r}; "
                        "put the options under the name that they belong to."
                    )
            frozen = bool((chosen.get("text") or {}).get("frozen", True))
            if frozen != (text == "frozen"):
                found = "frozen" if frozen else "fine-tuned"
                raise PaSEError(
                    f"{self.file} has options of {name!r} with {found} text, and the tables are of {text} text; give "
                    f"--text {found}, or another file."
                )

    def source(self, name: str) -> str | None:
        """The method whose chosen options a row takes: its own, or of a row that changes a part, those of the whole.

        A method without a part and the whole method are compared, so that they may differ in that part only. The same
        holds for a method on fewer modalities.
        """
        if name in self.options:
            return name
        fitting = [whole for whole in self.options if _is_part(name, whole)]
        return max(fitting, key=len, default=None)

    def completed(self, name: str, base: Options, options: Options) -> Options:
        """The options of a row of a table.

        Args:
            name: of the row.
            base: options of every run under the protocol.
            options: standard ones of the row.
        """
        source = self.source(name)
        if source == name:
            return merge(merge(base, options), self.options[name])
        # what makes a row a part of another comes last, or what was chosen for the whole would undo it
        return merge(base if source is None else merge(base, self.options[source]), options)

    def notes(self, names: Sequence[str], table: FeatureTable) -> list[str]:
        """Sentences on which rows have chosen options, and how these were chosen."""
        sources = {name: self.source(name) for name in names}
        chosen = list(dict.fromkeys(source for source in sources.values() if source is not None))
        parts = [f"{name} (of {source})" for name, source in sources.items() if source not in (None, name)]
        rest = [name for name, source in sources.items() if source is None]
        lines = []
        if chosen:
            lines.append(
                f"Options of {', '.join(chosen)} were chosen on the validation split{self._metric()}"
                f"{self._trials(chosen)}; they stand in `{self.file}`."
            )
        if parts:
            lines.append(f"These rows have the options of the whole method: {', '.join(parts)}.")
        if rest:
            lines.append(f"Nothing was chosen for these, which have their standard options: {', '.join(rest)}.")
        if chosen and self.about.get("data") not in (None, table.fingerprint()):
            lines.append(f"Options in `{self.file}` were chosen on other data than these.")
        return lines

    def _metric(self) -> str:
        return f" by {self.about['metric']}" if "metric" in self.about else ""

    def _trials(self, names: Sequence[str]) -> str:
        counts = self.about.get("trials") or {}
        spent = {name: counts[name] for name in names if name in counts}
        if not spent:
            return ""
        usual = max(spent.values())
        fewer = [f"{name} {count}" for name, count in spent.items() if count < usual]
        return f", {usual} trials each" + (f" ({', '.join(fewer)})" if fewer else "")


def _is_part(name: str, whole: str) -> bool:
    """Whether a row is a method with one part changed, or on fewer modalities."""
    if name.startswith((f"{whole} - ", f"{whole}, ", f"{whole} on ")):
        return True
    if whole in (PASE, PAPER) and name.startswith(f"{whole} + "):
        return name not in balanced("pase")  # another balancing is another method, another fusion is a part
    return whole == "concat" and name.endswith(" alone")


def read_tuned(file: str | Path) -> Tuned:
    """Read the `options.yaml` of a sweep over methods, or any mapping of methods to options of a run.

    Errors:
        PaSEError: there is no such file, or it holds anything else.
    """
    path = Path(file)
    content = read_mapping(path)
    about = content.pop(ABOUT, None) or {}
    wrong = next((name for name, options in content.items() if not isinstance(options, dict)), None)
    if not content or wrong is not None or not isinstance(about, dict):
        found = f"{wrong!r} of type {type(content[wrong]).__name__}" if wrong is not None else "no method"
        raise PaSEError(
            f"{path} was to hold options of a run by method, found {found}; give the options.yaml of `pase sweep`."
        )
    return Tuned(str(file), {str(name): options for name, options in content.items()}, about)
