"""What the HTML pages have in common: templates in which every value is escaped, and embedded pictures."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, write_text
from pase_msa.report import charts
from pase_msa.report.numbers import format_value, is_percent, metric_label, scale, with_unit

Picture = dict[str, str]
"""A figure for a template: "caption", "alt" (its content in words), and "light" and "dark" as base64."""


def write_html(template: str, path: Path, content: Mapping[str, Any]) -> Path:
    """Render a template of this package and write it, whole or not at all; the folder is made.

    Every value is escaped. The template has `label`, `number`, `is_percent` and `unit` for metrics.

    Errors:
        PaSEError: the file cannot be written.
    """
    loader = PackageLoader("pase_msa.report", "")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(label=metric_label, number=format_value, is_percent=is_percent, unit=with_unit)
    text = environment.get_template(template).render(content)
    try:
        make_folder(path.parent)
        write_text(path, text)
    except OSError as error:
        reason = error.strerror or error
        raise PaSEError(f"{os.fspath(path)} cannot be written ({reason}); name another file.") from error
    return path


def picture(caption: str, alt: str, draw: Callable[..., bytes]) -> Picture:
    """A figure for either colour scheme.

    Args:
        caption: above it.
        alt: its content in words, for who does not see it.
        draw: gives PNG bytes for `dark=False` and `dark=True`.
    """
    light, dark = (base64.b64encode(draw(dark=dark)).decode() for dark in (False, True))
    return {"caption": caption, "alt": f"{caption}. {alt}.", "light": light, "dark": dark}


def bars_picture(
    caption: str, axis: str, values: Mapping[str, float], metric: str, *, modalities: Sequence[str] = ()
) -> list[Picture]:
    """Bars of a metric by name; no picture without values.

    Args:
        caption: above it.
        axis: label.
        values: by name, as measured.
        metric: decides over unit and decimals.
        modalities: names that have a colour of their own, in the order of the task.
    """
    if not values:
        return []
    factor = scale(metric)
    scaled = {name: factor * value for name, value in values.items()}

    def text(value: float) -> str:
        return format_value(metric, value / factor)

    alt = "; ".join(f"{name} {text(value)}" for name, value in scaled.items())
    return [picture(caption, alt, partial(charts.bars, scaled, axis, text, modalities=modalities))]


def flat_settings(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one list of dotted names."""
    flat: dict[str, str] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        flat |= flat_settings(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return flat
