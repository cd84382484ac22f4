"""A study: variants of a run x seeds x data sets, with one cell per combination."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pase_msa.data.context import plan_context
from pase_msa.data.opening import open_data, training_part
from pase_msa.data.shards import absolute
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.parallel import Backend
from pase_msa.studies.cells import Cell, stable_key
from pase_msa.studies.engine import run_cells
from pase_msa.studies.ridge_baseline import RIDGE
from pase_msa.studies.training_cell import study_cell
from pase_msa.training.config import RunConfig

_log = logging.getLogger(__name__)
_KEYS = {"base", "variants", "data", "seeds"}


@dataclass(frozen=True)
class Study:
    """The content of a study's YAML file.

    Attributes:
        name: of the file, without its suffix.
        variants: options of a run by name, those of `base` included.
        data: folders or files; none is the bundled synthetic benchmark.
        seeds: of the runs.
    """

    name: str
    variants: dict[str, dict[str, Any]]
    data: list[str]
    seeds: list[int]


def read_study(file: str | Path) -> Study:
    """Read `base`, `variants` (name -> changes), `data` (a list) and `seeds` (a number or a list).

    Errors:
        PaSEError: there is no such file, or it holds anything else.
    """
    path = Path(file)
    content = read_mapping(path)
    if unknown := sorted(set(content) - _KEYS):
        raise PaSEError(f"{path} has {unknown[0]!r}; a study has base, variants, data and seeds.")
    if not isinstance(content.get("variants"), dict) or not content["variants"]:
        raise PaSEError(f"{path} is no study: it wants `variants`, a mapping of names to changed options.")
    base = content.get("base") or {}
    variants = {str(name): merge(base, change or {}) for name, change in content["variants"].items()}
    data = content.get("data") or []
    return Study(path.stem, variants, [data] if isinstance(data, str) else data, seed_list(content.get("seeds", 5)))


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file that must hold a mapping."""
    if not path.is_file():
        raise PaSEError(f"There is no file {str(path)!r}; give a YAML file.")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PaSEError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise PaSEError(f"{path} must hold a mapping, found {type(content).__name__}.")
    return content


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`, nested mappings merged."""
    result = dict(base)
    for key, value in change.items():
        deep = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if deep else value
    return result


def seed_list(seeds: int | Sequence[int]) -> list[int]:
    """Seeds 1 to N for a number N, or those of a list."""
    listed = list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
    if not listed:
        raise PaSEError(f"A study wants one seed or more, found {seeds}.")
    return listed


def study_cells(
    study: Study,
    *,
    data: Sequence[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    test: bool = True,
) -> list[Cell]:
    """The grid: data sets x variants x seeds. A variant is left out on data that lack a modality that it names.

    The key of a cell follows from the complete configuration of the run, defaults included, from the fingerprint of the
    data, from the seed, and from whether the test split is read.

    Args:
        study: base, variants, data and seeds.
        data: folders or files in place of the study's.
        seeds: a number N for seeds 1 to N, or a list, in place of the study's.
        only: names of variants; all if left out.
        test: whether to evaluate on the test split.

    Errors:
        PaSEError: an unknown variant, options that are none of a run, no variant for these data.
    """
    if unknown := sorted(set(only or []) - set(study.variants)):
        raise PaSEError(
            f"The study has the variants {', '.join(study.variants)}, not {unknown[0]!r}; name some of these."
        )
    paths: list[str | None] = [absolute(path) for path in (data or study.data)] or [None]
    names = dataset_names(paths)
    parts = [part for options in study.variants.values() if (part := training_part(options))]
    cells = []
    for path in paths:
        table = open_data(path, part=parts[0] if parts else None)
        fingerprint, present = table.fingerprint(), held(table)
        for name in only or study.variants:
            options = study.variants[name]
            made = set(plan_context(table, options.get("context", "none"), options.get("context_of")))
            if missing := sorted(set(options.get("modalities") or []) - present - made):
                _log.info("%s is left out on %s, which has no %s", name, names[path], missing[0])
                continue
            for seed in seeds_of(study, seeds):
                cells.append(_cell(name, options, seed, test, fingerprint, names[path], path))
    if not cells:
        raise PaSEError("No variant of the study can be run on these data: every one names a modality that they lack.")
    return cells


def seeds_of(study: Study, seeds: int | Sequence[int] | None) -> list[int]:
    """The given seeds, or those of the study."""
    return study.seeds if seeds is None else seed_list(seeds)


def _cell(
    name: str, options: Mapping[str, Any], seed: int, test: bool, fingerprint: str, source: str, path: str | None
) -> Cell:
    is_ridge = options.get("model", {}).get("name") == RIDGE  # solved in closed form: it has no seed and no defaults
    whole = dict(options) if is_ridge else RunConfig.from_options(options, seed=seed).to_dict()
    complete = {key: value for key, value in whole.items() if key not in ("data", "out", "seed")}
    training = {"run": complete, "data": fingerprint, **({} if is_ridge else {"seed": seed})}
    run = f"{slug(name)}-{slug(source)}-seed{seed}-{stable_key(training)[:8]}"
    return Cell(
        {**training, "test": test},
        {"data": source, "variant": name, "seed": seed},
        {"run": run, "data": path},
    )


def dataset_names(paths: Sequence[str | None]) -> dict[str | None, str]:
    """Names of data sets: the last part of the path, or as many parts as make the names differ."""
    for parts in range(1, 99):
        named = {path: "synthetic" if path is None else "/".join(Path(path).parts[-parts:]) for path in paths}
        if len(set(named.values())) == len(named):
            break
    return named


def slug(name: str) -> str:
    """The name as that of a folder."""
    return re.sub(r"[^\w.+]+", "_", name.replace(" - ", " minus ")).strip("_")


def held(table: FeatureTable) -> set[str]:
    """Names of the modalities in the data; transcripts are "text"."""
    return set(table.modalities) | ({"text"} if table.schema.text else set())


def run_study(
    study: Study,
    root: str | Path,
    *,
    data: Sequence[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    test: bool = True,
    jobs: int = 2,
    threads: int = 1,
    backend: Backend = "loky",
    progress: bool = True,
    timeout: float | None = None,
) -> pd.DataFrame:
    """Run the grid (see `study_cells`, `run_cells`); run folders are in `root/runs`.

    Returns:
        One row per cell with "data", "variant", "seed", "test/METRIC", "valid/METRIC", "training_seconds",
        "seconds_an_epoch", "epochs", "best_epoch", "parameters", "run" (the run folder, from `root`), and what
        `run_cells` adds.
    """
    cells = study_cells(study, data=data, seeds=seeds, only=only, test=test)
    return run_cells(
        cells,
        study_cell,
        root=root,
        jobs=jobs,
        threads=threads,
        backend=backend,
        progress=progress,
        title=study.name,
        timeout=timeout,
    )
