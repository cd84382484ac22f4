"""`pase adapt`: the fields of AdaptConfig are its options."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jsonargparse


def adapt(*, progress: bool = True, **options: Any) -> None:
    """Train a language model on labelled sentences, for use with --text.model.

    Args:
        progress: show a progress bar on a terminal.
        options: the fields of AdaptConfig, as plain containers.
    """
    from pase_msa.data.transcripts import TextConfig
    from pase_msa.files import read_json
    from pase_msa.training.adapt import RECORD, AdaptConfig
    from pase_msa.training.adapt import adapt as adapt_model
    from pase_msa.training.config import TrainingConfig

    nested: dict[str, Any] = {"text": TextConfig, "training": TrainingConfig}
    config = AdaptConfig(**{key: nested[key](**value) if key in nested else value for key, value in options.items()})
    folder = adapt_model(config, progress=progress and sys.stderr.isatty())
    record = read_json(folder / RECORD)
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in record["validation"].items())
    print(f"{folder}: {record['base']}, {record['utterances']['train']} sentences; validation: {metrics}")
    print(f"next: pase train --text.model {folder} --text.frozen false --data ...")


def add_options(parser: jsonargparse.ArgumentParser, words: Sequence[str]) -> dict[str, type]:
    """Add the options.

    Returns:
        The options that are lists, with the type of their items; there are none.
    """
    from pase_msa.training.adapt import AdaptConfig

    parser.add_class_arguments(AdaptConfig)
    parser.add_argument("--progress", type=bool, default=True, help="show a progress bar on a terminal")
    return {}
