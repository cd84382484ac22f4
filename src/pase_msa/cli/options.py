"""Options of a command from its function: parameters are options, the docstring is the help."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import jsonargparse

Function = Callable[..., None]


def summary(function: Function) -> str:
    """The first line of a command's docstring."""
    return inspect.cleandoc(str(function.__doc__)).partition("\n")[0]


def description(function: Function) -> str:
    """A command's docstring without the sections that have a heading, such as "Args"."""
    paragraphs = inspect.cleandoc(str(function.__doc__)).split("\n\n")
    return "\n\n".join(text for text in paragraphs if not re.match(r"\w+:\n", text))


def helps(function: Function) -> dict[str, str]:
    """What the section "Args" of a docstring says, by parameter."""
    section = inspect.cleandoc(str(function.__doc__)).partition("\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.M)
    return {name: " ".join(text.split()) for name, text in entries}


def list_item(hint: Any) -> type | None:
    """The type of a list's items: `str` for `list[str] | None`; None for what is no list."""
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is list:
            item = get_args(kind)[0]
            return item if isinstance(item, type) else None
    return None


def add_function(parser: jsonargparse.ArgumentParser, function: Function) -> None:
    """Add the options of a command that its signature says."""
    texts, hints = helps(function), get_type_hints(function)
    before = ""
    for name, parameter in inspect.signature(function).parameters.items():
        hint, text, item = hints[name], texts.get(name, ""), list_item(hints[name])
        option, required = f"--{name.replace('_', '-')}", parameter.default is inspect.Parameter.empty
        by_place = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        if by_place and required:
            shape: dict[str, Any] = {"type": hint} if item is None else {"type": str, "nargs": "+"}
            parser.add_argument(name, help=text, **shape)
        elif hint is bool and parameter.default is False:
            parser.add_argument(option, action="store_true", help=text)
        else:
            shape = {"required": True} if required else {"default": parameter.default}
            if item is not None:
                hint = list[str] | None
                shape["metavar"] = "PATH ..." if item is Path else "NAME,NAME"
            if by_place:
                text += f" The word {option} may be left out {before or 'where it would come first'}."
            parser.add_argument(option, type=hint, help=text, **shape)
        before = f"right after {name}"


def with_paths(function: Function, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the words of `list[Path]` parameters as paths."""
    hints = get_type_hints(function)
    return {
        name: [Path(word) for word in value] if value and list_item(hints.get(name)) is Path else value
        for name, value in arguments.items()
    }


def use_dashes(parser: jsonargparse.ArgumentParser) -> None:
    """Show every option with dashes, and take underscores too, so that keys of a YAML file can be pasted."""
    for action in parser._actions:  # argparse offers no other way to rename an option
        shown = [option.replace("_", "-") for option in action.option_strings if not option.endswith("+")]
        parser._option_string_actions.update(dict.fromkeys([*shown, f"--{action.dest}"] if shown else [], action))
        action.option_strings = shown


def place_words(words: Sequence[str], function: Function) -> list[str]:
    """Words that stand at the place of a parameter with a default, as its option: `FOLDER` is `--data=FOLDER`."""
    placed = list(words)
    parameters = inspect.signature(function).parameters.values()
    by_place = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    for place, parameter in enumerate(by_place):
        if len(placed) <= place or placed[place].startswith("-"):
            break
        if parameter.default is not inspect.Parameter.empty:
            placed[place] = f"--{parameter.name.replace('_', '-')}={placed[place]}"
    return placed


def join_lists(words: Sequence[str], lists: dict[str, type]) -> list[str]:
    """Everything that is given for a list option as one word, which holds a JSON list.

    Args:
        words: of the command line.
        lists: type of the items by option ("--data"); what follows an option of paths belongs to it.
    """
    others: list[str] = []
    gathered: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        item = lists.get(option.replace("_", "-"))
        if item is None or not (equals or (rest and not rest[0].startswith("--"))):
            others.append(word)
            continue
        values = gathered.setdefault(option.replace("_", "-"), [])
        values.append(value if equals else rest.pop(0))
        while item is Path and rest and not rest[0].startswith("-"):
            values.append(rest.pop(0))
    for option, values in gathered.items():
        names = values if lists[option] is Path else [name for value in values for name in split_names(value)]
        others.append(f"{option}={json.dumps(names)}")
    return others


def split_names(value: str) -> list[str]:
    """Names divided by commas, with or without brackets; the name of a file that is there is left whole."""
    if os.path.exists(value):  # unlike that of a Path, it takes a list that is too long for a name
        return [value]
    return [name.strip(" '\"") for name in value.strip("[] ").split(",") if name.strip()]


def list_options(function: Function) -> dict[str, type]:
    """The list options of a command, with the type of their items."""
    found = {}
    for name, hint in get_type_hints(function).items():
        item, parameter = list_item(hint), inspect.signature(function).parameters.get(name)
        if parameter is not None and item is not None:
            found[f"--{name.replace('_', '-')}"] = item
    return found
