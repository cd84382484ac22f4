"""The run folder: what is in it, and what state it is in."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from pase_msa.errors import PaSEError
from pase_msa.files import read_json, write_json, write_text


class RunFolder:
    """A folder with one run.

    `config.yaml`, `data.json` and `environment.json` are written when it starts; `logs/` (CSV and TensorBoard, one
    version a session) and `checkpoints/` while it trains; `model/` and `results.json` when it is complete;
    `predictions.csv`, `evaluation.json` and `report.html` by the evaluation.
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
        self.results = self.path / "results.json"
        self.evaluation = self.path / "evaluation.json"
        self.predictions = self.path / "predictions.csv"
        self.report = self.path / "report.html"

    @classmethod
    def complete(cls, path: str | Path) -> RunFolder:
        """A folder that must hold a complete run."""
        folder = cls(path)
        if not folder.path.is_dir():
            raise PaSEError(f"There is no run folder {folder.path}; give the --out of a `pase train`.")
        if not folder.results.is_file():
            state = "an unfinished run; give its `pase train` command again to finish it"
            what = state if folder.config.is_file() else "no run; give the --out of a `pase train`"
            raise PaSEError(f"{folder.path} holds {what}.")
        return folder

    def start(self, config: dict[str, Any], data: dict[str, Any], environment: dict[str, Any]) -> bool:
        """Begin a run here, or find that it is to be resumed (True).

        Errors:
            PaSEError: the folder holds a finished run, a run of another configuration or of other data, or files that
                are no run's.
        """
        if self.results.is_file():
            raise PaSEError(f"{self.path} holds a finished run already; give another --out, or remove the folder.")
        if self.config.is_file() and self.data.is_file():
            before = yaml.safe_load(self.config.read_text())
            mine = {key: value for key, value in config.items() if key not in ("out", "data")}
            if changed := [key for key in mine if before.get(key) != json.loads(json.dumps(mine[key]))]:
                raise PaSEError(
                    f"{self.path} holds an unfinished run whose {changed[0]} is {before.get(changed[0])!r}, not "
                    f"{mine[changed[0]]!r}; repeat its own command to resume it, or give another --out."
                )
            if read_json(self.data)["fingerprint"] != data["fingerprint"]:
                raise PaSEError(
                    f"{self.path} holds an unfinished run on other data; give the same --data, or another --out."
                )
            return self.last.is_file()
        # a kill in the middle of the three files below leaves a folder that is still ours to begin in
        begun = {self.environment.name, self.data.name}
        begun |= {f".{name}.partial" for name in (*begun, self.config.name)}
        if self.path.exists() and any(file.name not in begun for file in self.path.iterdir()):
            raise PaSEError(f"{self.path} is not empty and holds no run; give another --out.")
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.environment, environment)
        write_json(self.data, data)
        write_text(self.config, yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False))
        return False

    def history(self) -> list[dict[str, Any]]:
        """One row an epoch from the CSV logs; a resumed session's rows replace those it repeated."""
        rows: dict[int, dict[str, Any]] = {}
        versions = sorted(self.logs.glob("version_*/metrics.csv"), key=lambda f: int(f.parent.name.split("_")[1]))
        for file in versions:
            fresh: dict[int, dict[str, Any]] = {}
            with file.open(newline="") as stream:
                for row in csv.DictReader(stream):
                    values = {name: float(value) for name, value in row.items() if value not in ("", None)}
                    epoch = int(values.pop("epoch", -1))
                    fresh.setdefault(epoch, {"epoch": epoch}).update(values)
            rows |= fresh
        return [rows[epoch] for epoch in sorted(rows)]
