"""The command line: a thin skin over the library, derived from its signatures."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import yaml

from pase_msa.cli import reproduce, studies
from pase_msa.cli.ask import ask
from pase_msa.cli.extract import extract
from pase_msa.cli.serving import demo, predict, serve
from pase_msa.errors import PaSEError
from pase_msa.files import strict_json

_MORE = {**studies.COMMANDS, **reproduce.COMMANDS}
# options that words without one stand for, by their place
_FIRST = {"train": {1: "--config"}, "diagnose": {1: "--data"}, "predict": {2: "--clip"}}


def evaluate(
    run: str, data: str | None = None, convention: Literal["mmsa", "mult", "pase"] | None = None, json: bool = False
) -> None:
    """Evaluate a run on its test split, once: metrics, subsets of modalities, contributions, calibration.

    Args:
        run: run folder of a complete `pase train`.
        data: where the data are now, if they have moved, or other data to try the model on.
        convention: of the metrics; that of the run if left out.
        json: print one JSON object instead of tables.
    """
    from pase_msa.evaluation.evaluate import evaluate as evaluate_run
    from pase_msa.report.run_page import render_table, report_run
    from pase_msa.training.run_folder import RunFolder

    result = evaluate_run(run, data=data, convention=convention)
    evaluated = RunFolder(run).evaluation.is_file()  # not after a trial on other data
    report = report_run(run) if evaluated else None
    if json:
        print(strict_json(result))
        return
    print(render_table(result))
    if report is not None:
        print(f"report: {report}")


def export(run: str, format: Literal["onnx"] = "onnx", out: str | None = None) -> None:
    """Export a model, from the features on, to a file that needs no PyTorch.

    Args:
        run: run folder, or a folder with a saved model.
        format: of the file.
        out: file to write; `model.onnx` in the folder if left out.
    """
    from pase_msa.serve.export import export_onnx

    print(f"{export_onnx(run, out)}: agrees with PyTorch")


def convert(file: str, out: str, format: str | None = None) -> None:
    """Convert a published feature format to our feature table.

    Args:
        file: file or folder to read.
        out: folder for the table; must not hold one yet.
        format: name of the reader; found from the content if left out.
    """
    from pase_msa.data import open_table

    table = open_table(file, format=format, out=out)
    parts = ", ".join(f"{name} ({dim})" for name, dim in table.modalities.items())
    print(f"{len(table)} utterances in {out}: {parts or 'no features'}{', transcripts' if table.schema.text else ''}")
    for note in table.meta.get("notes", []):
        print(f"note: {note}")


def inspect(file: str, format: str | None = None, json: bool = False) -> None:
    """Show what data hold, and what is wrong with them.

    Args:
        file: file or folder in any format that is known.
        format: name of the reader; found from the content if left out.
        json: print one JSON object instead of tables.
    """
    from pase_msa.data import open_table
    from pase_msa.data.inspect import inspect_table, render

    report = inspect_table(open_table(file, format=format))
    print(strict_json(report) if json else render(report))


def diagnose(
    data: str | None = None,
    label: str | None = None,
    modalities: list[str] | None = None,
    kind: Literal["auto", "regression", "classification"] = "auto",
    seed: int = 0,
    picture: str | None = None,
    json: bool = False,
) -> None:
    """Tell which modalities can be trusted, before anything is trained; the test split is not read.

    Args:
        data: folder or file in any format that `pase inspect` knows; the bundled synthetic benchmark if left out.
        label: label column; found if left out.
        modalities: those to use, divided by commas; all that the data hold.
        kind: of task.
        seed: of folds and bootstrap.
        picture: file to draw to, .png or .svg.
        json: print one JSON object instead of a table.
    """
    from pase_msa.heldout.diagnose import diagnose as diagnose_data
    from pase_msa.report.diagnosis_picture import check_picture, plot_diagnosis

    if picture is not None:
        check_picture(picture)
    found = diagnose_data(data, label=label, modalities=modalities, kind=kind, seed=seed)
    if picture is not None:
        plot_diagnosis(found, picture)
    if json:
        print(strict_json(found.to_dict()))
        return
    if data is None:
        print("The bundled synthetic benchmark; name data of your own with --data.\n")
    print(found, end="")
    if picture is not None:
        print(f"picture: {picture}")


def train_parser(argv: Sequence[str]) -> jsonargparse.ArgumentParser:
    """The options of `pase train`: the fields of RunConfig, and those of the chosen model and balancing method."""
    from pase_msa import plugins
    from pase_msa.training.config import RunConfig

    parser = _parser("Train a model, select the epoch on validation, and save it in a run folder.")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_class_arguments(RunConfig, skip={"model", "balancing", "modalities"})
    _add_modalities(parser)
    parser.add_argument("--progress", type=bool, default=True, help="show a progress bar")
    model = _given(argv, "model.name") or "pase"
    method = _given(argv, "balancing.name") or str(getattr(plugins.load("models", model), "BALANCING", "none"))
    for key, kind, name in (("model", "models", model), ("balancing", "balancing", method)):
        parser.add_class_arguments(plugins.load(kind, name).Config, key)
        parser.set_defaults({f"{key}.name": name})
    return parser


def train(parsed: jsonargparse.Namespace) -> None:
    """Run `pase train`."""
    from lightning.pytorch.utilities import rank_zero_only

    from pase_msa.files import read_json
    from pase_msa.heldout.modality_report import summary_lines
    from pase_msa.training.config import RunConfig
    from pase_msa.training.run import train as train_run

    plain = parsed.as_dict()
    progress = bool(plain.pop("progress"))
    plain.pop("config", None)
    config = _run_config(RunConfig, plain)
    folder = train_run(config, progress=progress and sys.stderr.isatty())
    if getattr(rank_zero_only, "rank", 0):  # one of several processes: the first one speaks
        return
    results = read_json(folder.results)
    metrics = ", ".join(
        f"{name} {value:.3f}" for name, value in results["validation"].items() if isinstance(value, float)
    )
    switched = results["phases"]["switched_at"]
    print(f"{folder.path}: best epoch {results['best_epoch']} of {results['epochs']} in {results['seconds']:.0f} s")
    print(f"validation: {metrics}")
    for line in summary_lines(results.get("modality_report") or {"modalities": {}}):
        print(line)
    if switched is not None:
        print(f"modulation on after epoch {switched}", end="")
        guarded = results["phases"]["guarded_at"]
        print(f", off again after epoch {guarded}" if guarded is not None else "")
    print(f"next: pase evaluate {folder.path}")


def _run_config(kind: Any, plain: dict[str, Any]) -> Any:
    from pase_msa.data.transcripts import TextConfig
    from pase_msa.training.config import PhaseConfig, TrainingConfig

    nested = {"text": TextConfig, "phases": PhaseConfig, "training": TrainingConfig}
    return kind(**{key: nested[key](**value) if key in nested else value for key, value in plain.items()})


#: options of the first version -> what they are called now
_RENAMED = {
    "modality_report": "balancing ('sgm' is what 'paper' was)",
    "modulation": "balancing",
    "dialect": "convention",
}
#: groups of options that a name alone may stand for: `--balancing sgm` is `--balancing.name sgm`
_NAMED = ("model", "balancing")


def _full_names(argv: Sequence[str]) -> list[str]:
    """The words of `pase train` with `--balancing NAME` as `--balancing.name NAME`, on the command line and in files.

    Errors:
        PaSEError: an option of the first version.
    """
    words: list[str] = []
    for index, word in enumerate(argv):
        option, equals, value = word.partition("=")
        key = option.removeprefix("--")
        if option.startswith("--") and (new := _RENAMED.get(key.split(".")[0])):
            raise PaSEError(f"The option --{key} is now called --{new}; write that.")
        if option.startswith("--") and key in _NAMED:
            words.append(f"--{key}.name{equals}{value}")
        elif index and argv[index - 1] == "--config":
            words.append(_config_with_full_names(word))
        elif option == "--config" and equals:
            words.append(f"--config={_config_with_full_names(value)}")
        else:
            words.append(word)
    return words


def _config_with_full_names(file: str) -> str:
    """The file, or its content where a group of options is given by a name alone."""
    content = _read_yaml(Path(file))
    for old, new in _RENAMED.items():
        if old in content:
            raise PaSEError(f"{file}: the option {old} is now called {new}; write that.")
    short = [key for key in _NAMED if isinstance(content.get(key), str)]
    if not short:
        return file
    return yaml.safe_dump({**content, **{key: {"name": content[key]} for key in short}})


def _given(argv: Sequence[str], key: str) -> str | None:
    """What an option that decides over further options was given: on the command line, else in a file, else None."""
    said = [
        word.split("=", 1)[1] if "=" in word else following
        for word, following in zip(argv, [*argv[1:], ""], strict=False)
        if word == f"--{key}" or word.startswith(f"--{key}=")
    ]
    if said:
        return said[-1] if said[-1] not in ("", "null") else None
    section, _, name = key.rpartition(".")
    for content in reversed([*_config_files(argv)]):
        held = content.get(section) if section else content
        if isinstance(held, dict) and held.get(name):
            return str(held[name])
    return None


def _config_files(argv: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The content of every configuration, be it a file or the text of one."""
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        if word == "--config" or word.startswith("--config="):
            given = word.split("=", 1)[1] if "=" in word else following
            yield yaml.safe_load(given) if "\n" in given else _read_yaml(Path(given))


def _read_yaml(file: Path) -> dict[str, Any]:
    """A configuration file."""
    if not file.is_file():
        raise PaSEError(f"There is no configuration file {str(file)!r}; give a YAML file.")
    try:
        content = yaml.safe_load(file.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PaSEError(f"{file} is not valid YAML: {error}.") from error
    if not isinstance(content, dict):
        raise PaSEError(f"{file} must hold options by name, found {type(content).__name__}; see `pase train --help`.")
    return content


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        value = value.strip("[]").split(",")
    return [str(name).strip() for name in value if str(name).strip()]


_names.__name__ = "names divided by commas"  # what the help shows as the type


def _add_modalities(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modalities", type=_names, default=None, help="those to use, divided by commas; all that the data hold"
    )


def _parser(description: str, prog: str | None = None) -> jsonargparse.ArgumentParser:
    return jsonargparse.ArgumentParser(prog=prog, description=description, exit_on_error=False, allow_abbrev=False)


_COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "ask": ask,
    "convert": convert,
    "inspect": inspect,
    "diagnose": diagnose,
    "extract": extract,
    "demo": demo,
    "serve": serve,
}


def build_parser(argv: Sequence[str]) -> jsonargparse.ArgumentParser:
    """The whole parser; the options of `train` depend on the plug-ins that `argv` names."""
    parser = _parser("PaSE: multimodal sentiment analysis in which no modality is silenced by the others.", prog="pase")
    parser.add_argument("--version", action="version", version=f"pase {version('pase-msa')}")
    commands = parser.add_subcommands(dest="command", required=True)
    # only `train` needs torch for its options
    if not argv or argv[0] not in (*_COMMANDS, *_MORE):
        commands.add_subcommand("train", train_parser(argv), help="train a model")
    for name, function in _COMMANDS.items():
        sub = _parser(str(function.__doc__).split("\n")[0])
        sub.add_function_arguments(function, as_positional=True, skip={"json", "modalities", "without"})
        if "modalities" in signature(function).parameters:
            _add_modalities(sub)
        if "without" in signature(function).parameters:
            sub.add_argument("--without", type=_names, default=None, help="modalities to withhold from a clip")
        if "json" in signature(function).parameters:
            sub.add_argument("--json", action="store_true", help="JSON instead of tables or CSV")
        commands.add_subcommand(name, sub, help=str(function.__doc__).split("\n")[0])
    for name, command in _MORE.items():
        sub = _parser(command.help)
        command.options(sub)
        commands.add_subcommand(name, sub, help=command.help)
    return parser


def expand(argv: Sequence[str]) -> list[str]:
    """The words with the option that one without it stands for: `train FILE` is `train --config FILE`."""
    words = list(argv)
    for place, option in _FIRST.get(words[0] if words else "", {}).items():
        if len(words) > place and not any(word.startswith("-") for word in words[: place + 1]):
            words.insert(place, option)
    return _full_names(words) if words[:1] == ["train"] else words


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. 0 on success, 2 for a mistake of the user's (one sentence on stderr), 1 for ours."""
    words: list[str] = []
    with _messages():
        try:
            words = expand(sys.argv[1:] if argv is None else argv)
            parsed = build_parser(words).parse_args(words)
            chosen = parsed[parsed.command]
            if parsed.command == "train":
                train(chosen)
            elif parsed.command in _MORE:
                _MORE[parsed.command].run(**chosen.as_dict())
            else:
                _COMMANDS[parsed.command](**chosen.as_dict())
        except (PaSEError, jsonargparse.ArgumentError) as error:
            print(f"pase: {_sentence(error)}", file=sys.stderr)
            return 2
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = "the disk is full; free some space and give the same command again, which keeps what is finished"
            print(f"pase: {full} ({_sentence(error)})", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            unit = "clip" if words[:1] == ["extract"] else "epoch"
            print(f"pase: stopped; the same command goes on from the last complete {unit}", file=sys.stderr)
            return 130
    return 0


def _sentence(error: Exception) -> str:
    """One line."""
    return " ".join(str(error).split())


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """What the library has to say goes to stderr, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("pase: %(message)s"))
    logger = logging.getLogger("pase_msa")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
