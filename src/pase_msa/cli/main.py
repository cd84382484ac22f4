"""`pase`: finds the command, builds its parser and runs it. Nothing heavy is imported before that."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib.util
import logging
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pase_msa
from pase_msa import cli
from pase_msa.cli import options
from pase_msa.cli.startup import quick_start
from pase_msa.errors import PaSEError, printable
from pase_msa.files import refusal
from pase_msa.optional import EXTRAS, how_to_install
from pase_msa.parallel import rank
from pase_msa.ranges import nearest

if TYPE_CHECKING:
    import jsonargparse

_KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false"}
_ABOUT = "PaSE: multimodal sentiment analysis in which no modality is silenced by the others."


@dataclass(frozen=True)
class Call:
    """A command with its arguments.

    Attributes:
        command: its name.
        function: what it runs.
        arguments: of the function, by name; groups of options are dictionaries.
    """

    command: str
    function: Callable[..., None]
    arguments: dict[str, Any]

    def run(self) -> None:
        """Run the command."""
        self.function(**self.arguments)


def commands() -> dict[str, Callable[..., None]]:
    """Every command by name: the modules of this folder with a function of their own name."""
    modules = [module.name for module in pkgutil.iter_modules(cli.__path__) if module.name != "main"]
    functions = {name: getattr(importlib.import_module(f"pase_msa.cli.{name}"), name, None) for name in modules}
    return {name.replace("_", "-"): function for name, function in functions.items() if callable(function)}


def overview() -> str:
    """The help of `pase` itself."""
    table = {name: options.summary(function) for name, function in commands().items()}
    width = max(map(len, table))
    return "\n".join(
        [
            "usage: pase COMMAND ...",
            "",
            _ABOUT,
            "",
            *(f"    {name:{width}}  {text}" for name, text in table.items()),
            "",
            "`pase COMMAND --help` lists the options of a command; `pase --version` prints the version.",
        ]
    )


def parse(words: Sequence[str]) -> Call:
    """The command that the words of a command line stand for.

    Args:
        words: of the command line, without "pase".

    Errors:
        PaSEError: no such command or option (the sentence gives the nearest one), or a value of the wrong type.
    """
    name, function = _command(words)
    module = sys.modules[function.__module__]
    rest = options.place_words(words[1:], function)
    if hasattr(module, "prepare"):
        rest = module.prepare(rest)
    parser = _parser(name, function)
    if hasattr(module, "add_options"):
        lists = module.add_options(parser, rest)
    else:
        options.add_function(parser, function)
        lists = options.list_options(function)
    options.use_dashes(parser)
    try:
        parsed = parser.parse_args(options.join_lists(rest, lists))
    except argparse.ArgumentError as error:
        further = getattr(module, "FURTHER", "")
        raise PaSEError(_sentence(parser, name, " ".join(str(error).split()), further)) from error
    return Call(name, function, options.with_paths(function, parsed.as_dict()))


def _command(words: Sequence[str]) -> tuple[str, Callable[..., None]]:
    """Name and function of the command that stands first."""
    name = words[0] if words else ""
    if name.replace("-", "_").isidentifier():
        place = f"pase_msa.cli.{name.replace('-', '_')}"
        # only the module of this command is imported
        if importlib.util.find_spec(place) is not None and name != "main":
            function = getattr(importlib.import_module(place), name.replace("-", "_"), None)
            if callable(function):
                return name, function
    names = list(commands())
    near = difflib.get_close_matches(name, names, 1)
    found = f"There is no command {name!r}" if name else "A command is missing"
    hint = f"did you mean {near[0]!r}?" if near else "see `pase --help`."
    raise PaSEError(f"{found}; there are {', '.join(names)}; {hint}")


def _parser(name: str, function: Callable[..., None]) -> jsonargparse.ArgumentParser:
    import jsonargparse

    return jsonargparse.ArgumentParser(
        prog=f"pase {name}",
        description=options.description(function),
        exit_on_error=False,
        allow_abbrev=False,
        print_config="--print-config",
    )


def _sentence(parser: jsonargparse.ArgumentParser, name: str, error: str, further: str) -> str:
    """What the parser found wrong, with the nearest option where one is misspelt, on the command line or in a file.

    Args:
        parser: of the command.
        name: of the command.
        error: of the parser.
        further: what to do about words too many; empty where the command says nothing of them.
    """
    spelt = {option: option for action in parser._actions for option in action.option_strings if option[:2] == "--"}
    hint = f"see `pase {name} --help`."
    if error.startswith("unrecognized arguments: "):
        words = error.removeprefix("unrecognized arguments: ").split(" ")
        wrong = words[0].partition("=")[0]
        if not wrong.startswith("-"):
            return f"`pase {name}` does not take {' '.join(words)!r}; {further or hint}"
        # a group such as --training is no option by itself
        named = ("--model", "--balancing")  # which a name alone may follow
        single = [o for o in spelt if o in named or not any(other.startswith(f"{o}.") for other in spelt)]
        single += [option for option in named if f"{option}.name" in spelt and option not in single]
        near = _nearest_option(wrong.replace("_", "-"), single)
        return f"`pase {name}` has no option {wrong}; {f'did you mean {near[0]}?' if near else hint}"
    error = re.sub(r"Expected an? (?:\w+\.)?Literal\[([^\]]*)\]\. Got value: (\S*)", _choice, error)
    error = re.sub(r"typing\.|<class '(\w+)'>", r"\1", error)
    error = re.sub(r"Expected an? (float|int|bool)\. Got value: (\S*)", _simple, error)
    error = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] .*: (.*)$", _either, error)
    return re.sub(r"^Parser key \"([\w.]+)\":", lambda key: f"--{key[1].replace('_', '-')}:", error)


def _nearest_option(wrong: str, options: Sequence[str]) -> list[str]:
    """The option that was meant, if any; in a group that there is, names within the group are compared."""
    group, dot, name = wrong.rpartition(".")
    within = {option[len(group) + 1 :]: option for option in options if dot and option.startswith(f"{group}.")}
    if within:
        return [within[near] for near in difflib.get_close_matches(name, within, 1)]
    return difflib.get_close_matches(wrong, options, 1)


def _simple(found: re.Match[str]) -> str:
    """What is wrong with the value of an option of a simple type."""
    return f"{_KINDS[found[1]]} was wanted, found {found[2]}; give one."


def _either(found: re.Match[str]) -> str:
    """What is wrong with the value of an option that may be left out; values of several types stay as they are."""
    wanted = [_KINDS.get(name) for name in found[1].split(", ") if name != "NoneType"]
    return found[0] if len(wanted) != 1 or wanted[0] is None else f"{wanted[0]} was wanted, found {found[2]}; give one."


def _choice(found: re.Match[str]) -> str:
    """What is wrong with a value that is none of a few words."""
    names = re.findall(r"'([^']*)'", found[1])
    return f"one of {', '.join(names)} was wanted, found {found[2]}; {nearest(found[2], names, 'take one of these.')}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. 0 on success, 2 for a mistake of the user's (one sentence on stderr), 1 for ours."""
    words = list(sys.argv[1:] if argv is None else argv)
    _fit_screen()
    with _messages(), quick_start():
        try:
            if words[:1] in (["--help"], ["-h"]):
                print(overview())
            elif words[:1] == ["--version"]:
                print(f"pase {pase_msa.__version__}")
            else:
                parse(words).run()
        except PaSEError as error:
            print(f"pase: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            if package not in EXTRAS:
                raise
            print(f"pase: {how_to_install(package)}", file=sys.stderr)
            return 2
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            if error.errno is None:  # not of the system
                raise
            print(f"pase: {printable(refusal(error))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            unit = "clip" if words[:1] == ["extract"] else "epoch"
            print(f"pase: stopped; the same command goes on from the last complete {unit}", file=sys.stderr)
            return 130
    return 0


def _fit_screen() -> None:
    """Let the screen replace what it cannot show; what goes to a file or a pipe is UTF-8 unless told otherwise."""
    for stream in (sys.stdout, sys.stderr):
        change = getattr(stream, "reconfigure", None)
        if change is None:
            continue
        if stream.isatty() or os.environ.get("PYTHONIOENCODING"):
            change(errors="replace")
        else:
            change(encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Print the library's log messages to stderr, one per line; of several processes of one run, those of the first."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("pase: %(message)s"))
    logger = logging.getLogger("pase_msa")
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if rank() else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
