"""`pase train`: the fields of RunConfig are its options, with those of the chosen model and balancing method."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jsonargparse

#: options of the first version -> what they are called now
_RENAMED = {
    "equilibrium": "balancing ('sgm' is what 'paper' was)",
    "modulation": "balancing",
    "dialect": "convention",
}
#: groups of options that a name alone may stand for: `--balancing sgm` is `--balancing.name sgm`
_NAMED = ("model", "balancing")


def train(config: str | None = None, *, progress: bool = True, **options: Any) -> None:
    """Train a model, select the epoch on validation, and save it in a run folder.

    Options of a group are written GROUP.OPTION. Dashes and underscores are the same: --training.learning-rate is
    --training.learning_rate, as a YAML file has it. The groups model and balancing have the options of the model and of
    the balancing method that are chosen: `pase train --model concat --help` lists those of concat.

    Args:
        config: YAML file with any of the options below.
        progress: show a progress bar on a terminal.
        options: the fields of RunConfig, as plain containers.
    """
    del config  # the parser has merged its content into the other options
    from lightning.pytorch.utilities import rank_zero_only

    from pase_msa import plugins
    from pase_msa.targets.names import target_names
    from pase_msa.training.run import train as train_run

    chosen = _run_config(options)
    if len(target_names(chosen.label)) > 1:
        _train_targets(chosen, progress=progress and sys.stderr.isatty())
        return
    folder = train_run(chosen, progress=progress and sys.stderr.isatty())
    if getattr(rank_zero_only, "rank", 0):  # one of several processes: only the first one prints
        return
    from pase_msa.files import read_json
    from pase_msa.heldout.modality_report import summary_lines
    from pase_msa.report.numbers import CONVENTION_NOTES, format_value, is_percent, metric_label

    results = read_json(folder.results)
    metrics = ", ".join(
        f"{metric_label(name)} {format_value(name, value)}{' %' if is_percent(name) else ''}"
        for name, value in results["validation"].items()
        if isinstance(value, float)
    )
    switched = results["phases"]["switched_at"]
    print(f"{folder.path}: best epoch {results['best_epoch']} of {results['epochs']} in {results['seconds']:.0f} s")
    note = CONVENTION_NOTES.get(results.get("convention", ""))
    print(f"validation{f' ({note})' if note else ''}: {metrics}")
    for line in summary_lines(results.get("modality_report") or {"modalities": {}}):
        print(line)
    for kind, name in (("models", chosen.model.get("name")), ("balancing", chosen.balancing.get("name"))):
        if name and (words := plugins.reduced(kind, name)):
            print(f"{name} is a reduced version of the published system ({words})")
    if switched is not None:
        print(f"balancing on after epoch {switched}", end="")
        guarded = results["phases"]["guarded_at"]
        print(f", off again after epoch {guarded}" if guarded is not None else "")
    print(f"next: pase evaluate {folder.path}")


def _train_targets(config: Any, *, progress: bool) -> None:
    """Train a run of several targets, and print a line per target."""
    from pase_msa.files import read_json
    from pase_msa.targets.names import target_folders
    from pase_msa.targets.prediction import target_lines
    from pase_msa.targets.run import train_targets

    folder = train_targets(config, progress=progress)
    results = read_json(folder.results)
    weights = {}
    for label, path in (target_folders(folder.path) or {}).items():
        report = read_json(path / "results.json").get("modality_report") or {"modalities": {}}
        weights[label] = {name: row["prediction_weight"] for name, row in report["modalities"].items()}
    print(f"{folder.path}: best epoch {results['best_epoch']} of {results['epochs']} in {results['seconds']:.0f} s")
    print("validation, per target:")
    for line in target_lines(results["validation"], weights):
        print(f"  {line}")
    print(f"next: pase evaluate {folder.path}")


def _run_config(options: dict[str, Any]) -> Any:
    """RunConfig from plain containers."""
    from pase_msa.data.transcripts import TextConfig
    from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig

    nested = {"text": TextConfig, "phases": PhaseConfig, "training": TrainingConfig}
    return RunConfig(**{key: nested[key](**value) if key in nested else value for key, value in options.items()})


def add_options(parser: jsonargparse.ArgumentParser, words: Sequence[str]) -> dict[str, type]:
    """Add the options; those of the groups model and balancing depend on the plug-ins that `words` name.

    The defaults of a run that fine-tunes a language model are others.

    Returns:
        The options that are lists, with the type of their items.
    """
    from pase_msa import plugins
    from pase_msa.training.config import FINE_TUNING, RunConfig

    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_class_arguments(RunConfig, skip={"model", "balancing", "modalities", "context_of"})
    parser.add_argument(
        "--modalities",
        type=list[str] | None,
        default=None,
        metavar="NAME,NAME",
        help="those to use, divided by commas; all that the data hold if left out",
    )
    parser.add_argument(
        "--context-of",
        type=list[str] | None,
        default=None,
        metavar="NAME,NAME",
        help="what context is made of, divided by commas; text if left out, or the first modality without any text",
    )
    parser.add_argument("--progress", type=bool, default=True, help="show a progress bar on a terminal")
    model = _given(words, "model.name") or "pase"
    method = _given(words, "balancing.name") or str(getattr(plugins.load("models", model), "BALANCING", "none"))
    for key, kind, name in (("model", "models", model), ("balancing", "balancing", method)):
        parser.add_class_arguments(plugins.load(kind, name).Config, key)
        parser.set_defaults({f"{key}.name": name})
    if (_given(words, "text.frozen") or "").lower() == "false":
        parser.set_defaults(
            {f"{key}.{name}": value for key, group in FINE_TUNING.items() for name, value in group.items()}
        )
    return {"--modalities": str, "--context-of": str}


def prepare(words: Sequence[str]) -> list[str]:
    """The words with `--balancing NAME` as `--balancing.name NAME`, on the command line and in files.

    Errors:
        PaSEError: an option of the first version.
    """
    from pase_msa.errors import PaSEError

    prepared: list[str] = []
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        key = option.removeprefix("--")
        if option.startswith("--") and (new := _RENAMED.get(key.split(".")[0])):
            raise PaSEError(f"The option --{key} is now called --{new}; write that.")
        if option.startswith("--") and key in _NAMED:
            prepared.append(f"--{key}.name{equals}{value}")
        elif key.startswith("encoders."):  # options by modality: the names of modalities stay as they are
            modality, _, name = key.rpartition(".")
            prepared.append(f"--{modality}.{name.replace('-', '_')}{equals}{value}")
        elif index and words[index - 1] == "--config":
            prepared.append(_config_with_full_names(word))
        elif option == "--config" and equals:
            prepared.append(f"--config={_config_with_full_names(value)}")
        else:
            prepared.append(word)
    return prepared


def _config_with_full_names(file: str) -> str:
    """The file, or its content where a group of options is given by a name alone or a list by names with commas."""
    import yaml

    from pase_msa.cli.options import split_names
    from pase_msa.errors import PaSEError

    content = _read_yaml(Path(file))
    for old, new in _RENAMED.items():
        if old in content:
            raise PaSEError(f"{file}: the option {old} is now called {new}; write that.")
    changed: dict[str, Any] = {key: {"name": content[key]} for key in _NAMED if isinstance(content.get(key), str)}
    if isinstance(labels := content.get("label"), list):
        changed["label"] = ",".join(map(str, labels))
    for key in ("modalities", "context_of"):
        if isinstance(names := content.get(key), str):
            changed[key] = split_names(names)
    return yaml.safe_dump({**content, **changed}) if changed else file


def _given(words: Sequence[str], key: str) -> str | None:
    """The value of an option that decides over further options: on the command line, else in a file, else None."""
    values = [
        word.split("=", 1)[1] if "=" in word else following
        for word, following in zip(words, [*words[1:], ""], strict=False)
        if word == f"--{key}" or word.startswith(f"--{key}=")
    ]
    if values:
        return values[-1] if values[-1] not in ("", "null") else None
    section, _, name = key.rpartition(".")
    for content in reversed([*_config_files(words)]):
        options = content.get(section) if section else content
        if isinstance(options, dict) and options.get(name) not in (None, ""):
            return str(options[name])
    return None


def _config_files(words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The content of every configuration, be it a file or the text of one."""
    import yaml

    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == "--config" or word.startswith("--config="):
            given = word.split("=", 1)[1] if "=" in word else following
            yield yaml.safe_load(given) if "\n" in given else _read_yaml(Path(given))


def _read_yaml(file: Path) -> dict[str, Any]:
    """A configuration file."""
    import yaml

    from pase_msa.errors import PaSEError

    if not file.is_file():
        raise PaSEError(f"There is no configuration file {str(file)!r}; give a YAML file.")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PaSEError(f"{file} is not valid YAML: {error}.") from error
    if not isinstance(content, dict):
        raise PaSEError(f"{file} must hold options by name, found {type(content).__name__}; see `pase train --help`.")
    return content
