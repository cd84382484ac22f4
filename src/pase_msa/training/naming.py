"""The run folder of a run that names none: a name per configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from pase_msa import plugins
from pase_msa.files import read_json
from pase_msa.training.config import RunConfig
from pase_msa.training.run_folder import RunFolder

_DIGITS = 6
#: not compared field by field: they are in the name, are no option of the result, or belong to a plug-in
_APART = ("data", "out", "seed", "model", "balancing")


def default_folder(config: RunConfig, data: dict[str, Any]) -> Path:
    """The folder of a run without `out`: runs/DATA-MODEL-seedN, with a suffix where it would meet another run.

    Args:
        config: of the run.
        data: their description, see `describe_data`.
    """
    folder = Path("runs") / run_name(config, data["source"])
    # data in two places may have the same name; theirs is the one thing of a run that its options do not tell
    described = RunFolder(folder).data
    if described.is_file() and read_json(described)["fingerprint"] != data["fingerprint"]:
        folder = folder.with_name(f"{folder.name}-{data['fingerprint'][:_DIGITS]}")
    return folder


def run_name(config: RunConfig, data: str) -> str:
    """DATA-MODEL-seedN, and six hexadecimal digits where other options than these differ from the defaults.

    The digits begin the sha256 of the options that differ, so that they are the same on every machine, and whether a
    default is written out or left out.

    Args:
        config: of the run.
        data: name of the data.
    """
    name = f"{data}-{config.model.get('name', 'pase')}-seed{config.seed}"
    slug = re.sub(r"[^\w.+-]+", "_", name)
    if not (changed := changed_options(config)):
        return slug
    text = json.dumps(changed, sort_keys=True, default=str)
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"


def changed_options(config: RunConfig) -> dict[str, Any]:
    """The options of a run that differ from the defaults, apart from data, out, seed and the model's name.

    Options of the model and of the balancing method are compared with the defaults of the plug-in that is named.
    """
    changed = _differing(config, RunConfig(), leave_out=_APART)
    model = plugins.load("models", config.model.get("name", "pase"))
    default = getattr(model, "BALANCING", "none")
    method = config.balancing.get("name") or default
    groups = {
        "model": _differing_from_plugin(model, config.model),
        "balancing": _differing_from_plugin(plugins.load("balancing", method), config.balancing),
    }
    if method != default:
        groups["balancing"]["name"] = method
    return changed | {name: options for name, options in groups.items() if options}


def _differing(value: Any, default: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a dataclass that differ from those of another one, plain; nested dataclasses likewise."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        mine, other = getattr(value, field.name), getattr(default, field.name)
        if field.name in leave_out or mine == other:
            continue
        changed[field.name] = _differing(mine, other) if dataclasses.is_dataclass(mine) else mine
    return changed


def _differing_from_plugin(module: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a plug-in that differ from its defaults."""
    defaults = vars(module.Config())
    return {
        name: value
        for name, value in options.items()
        if name != "name" and (name not in defaults or value != defaults[name])
    }
