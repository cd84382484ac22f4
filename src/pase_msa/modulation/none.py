"""No balancing."""

from __future__ import annotations

from dataclasses import dataclass

from pase_msa.modulation.base import Modulation


@dataclass
class Config:
    """No options.

    Attributes:
        name: the plug-in.
    """

    name: str = "none"


def build(config: Config) -> Modulation:
    """The plug-in's entry point."""
    return Modulation()
