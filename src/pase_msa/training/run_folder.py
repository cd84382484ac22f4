"""The run folder: its files, and whether it holds a finished, an unfinished or no run. It needs no torch."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pase_msa.data.guard import reading, refuse_several_targets
from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, read_json, read_text, read_yaml, write_json, write_text
from pase_msa.locks import HOLDER, LOCK, locked

#: what readers of an evaluation rely on
_EVALUATED = ("name", "seed", "task", "data", "split", "count", "convention", "metrics")


class RunFolder:
    """A folder with one run.

    The files in the order in which they are written:

    - at the start: `config.yaml`, `data.json` and `environment.json`;
    - in training: `logs/` (CSV and TensorBoard, one version per session) and `checkpoints/`;
    - at the end: `model/` and `results.json`, which marks the run as finished;
    - by the evaluation: `predictions.csv` and `evaluation.json`, and a new card in `model/`;
    - by the report: `report.html`;
    - by hand: `about.md`, what is known of the data, which every card of the run takes up.

    Args:
        path: of the folder; nothing is read or written before a method is called.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.data = self.path / "data.json"
        self.environment = self.path / "environment.json"
        self.logs = self.path / "logs"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.model = self.path / "model"
        self.card = self.model / "README.md"
        self.about = self.path / "about.md"
        self.results = self.path / "results.json"
        self.evaluation = self.path / "evaluation.json"
        self.predictions = self.path / "predictions.csv"
        self.report = self.path / "report.html"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder while a run is trained in it; a folder that is empty afterwards is removed.

        Errors:
            PaSEError: another process holds it, or it cannot be written to.
        """
        try:
            with locked(self.path):
                yield
        finally:
            with contextlib.suppress(OSError):  # only an empty folder can be removed
                self.path.rmdir()

    @classmethod
    def complete(cls, path: str | Path) -> RunFolder:
        """The folder of a run that must be finished.

        Errors:
            PaSEError: there is no such folder, no run in it, an unfinished one, or one of several targets.
        """
        folder = cls(path)
        if not folder.path.is_dir():
            raise PaSEError(f"There is no run folder {folder.path}; give the --out of a `pase train`.")
        refuse_several_targets(folder.path)
        if not folder.results.is_file():
            state = "an unfinished run; give its `pase train` command again to finish it"
            what = state if folder.config.is_file() else "no run; give the --out of a `pase train`"
            raise PaSEError(f"{folder.path} holds {what}.")
        return folder

    def check_free(self) -> None:
        """Refuse a folder in which no run can begin or go on, whatever its options and data.

        Errors:
            PaSEError: the folder holds a finished run, or files that belong to no run.
        """
        if self.results.is_file():
            raise PaSEError(f"{self.path} holds a finished run already; give another --out, or remove the folder.")
        if self.config.is_file() and self.data.is_file():
            return
        # A kill while the three files of `start` are written leaves a folder that holds some of them and nothing else.
        # The run may begin in it again.
        begun = {self.environment.name, self.data.name, LOCK, HOLDER}
        if self.path.exists() and any(
            file.name not in begun and file.suffix != ".partial" for file in self.path.iterdir()
        ):
            raise PaSEError(f"{self.path} is not empty and holds no run; give another --out.")

    def start(self, config: dict[str, Any], data: dict[str, Any], environment: dict[str, Any]) -> bool:
        """Begin a run in this folder, or find that it is to be resumed there.

        Args:
            config: the options of the run, plain.
            data: description of the data, see `describe_data`.
            environment: versions and hardware.

        Returns:
            Whether the run goes on from a checkpoint.

        Errors:
            PaSEError: the folder holds a finished run, a run of another configuration or of other data, or files that
                belong to no run.
        """
        self.check_free()
        if self.config.is_file() and self.data.is_file():
            before = self.read_config()
            mine = {key: value for key, value in config.items() if key not in ("out", "data")}
            if changed := [key for key in mine if before.get(key) != json.loads(json.dumps(mine[key]))]:
                raise PaSEError(
                    f"{self.path} holds an unfinished run whose {changed[0]} is {before.get(changed[0])!r}, not "
                    f"{mine[changed[0]]!r}; repeat its own command to resume it, or give another --out."
                )
            if self.read_data()["fingerprint"] != data["fingerprint"]:
                raise PaSEError(
                    f"{self.path} holds an unfinished run on other data; give the same --data, or another --out."
                )
            return self.last.is_file()
        make_folder(self.path)
        write_json(self.environment, environment)
        write_json(self.data, data)
        write_text(self.config, yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False))
        return False

    def read_config(self) -> dict[str, Any]:
        """The options of the run, as plain containers.

        Errors:
            PaSEError: the file is missing or damaged.
        """
        return read_yaml(self.config, keys=("seed", "convention"))

    def read_data(self) -> dict[str, Any]:
        """The description of the data, see `describe_data`.

        Errors:
            PaSEError: the file is missing or damaged.
        """
        return dict(read_json(self.data, keys=("path", "fingerprint")))

    def read_evaluation(self) -> dict[str, Any]:
        """What `pase evaluate` wrote.

        Errors:
            PaSEError: the run is not evaluated, or the file is damaged.
        """
        if not self.evaluation.is_file():
            raise PaSEError(f"{self.path} is not evaluated yet; give `pase evaluate {self.path}` first.")
        return dict(read_json(self.evaluation, keys=_EVALUATED, remedy="remove it and evaluate the run again"))

    def read_about(self) -> str:
        """What somebody has written about the data of the run; "" where nothing is written.

        Errors:
            PaSEError: the file cannot be read.
        """
        return read_text(self.about) if self.about.is_file() else ""

    def drawn_splits(self) -> str | None:
        """The label by which `--split auto` drew the splits of this run ("" is the only one); None if it drew none."""
        if not self.config.is_file():
            return None
        config = self.read_config()
        return str(config.get("label") or "") if config.get("split") == "auto" else None

    def history(self) -> list[dict[str, Any]]:
        """One row per epoch from the CSV logs; rows of a resumed session replace those of the epochs it repeated."""
        rows: dict[int, dict[str, Any]] = {}
        versions = sorted(self.logs.glob("version_*/metrics.csv"), key=lambda f: int(f.parent.name.split("_")[1]))
        for file in versions:
            fresh: dict[int, dict[str, Any]] = {}
            with reading(file, "the log of a run", "remove it; the curves of its epochs are lost"):
                for row in csv.DictReader(io.StringIO(read_text(file), newline="")):
                    values = {name: float(value) for name, value in row.items() if value not in ("", None)}
                    epoch = int(values.pop("epoch", -1))
                    fresh.setdefault(epoch, {"epoch": epoch}).update(values)
            rows |= fresh
        return [rows[epoch] for epoch in sorted(rows)]
