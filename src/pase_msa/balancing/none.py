"""No balancing."""

from __future__ import annotations

from dataclasses import dataclass

from pase_msa.balancing.base import BalancingMethod


@dataclass
class Config:
    """No options.

    Attributes:
        name: the plug-in.
    """

    name: str = "none"


def build(config: Config) -> BalancingMethod:
    """The plug-in's entry point."""
    return BalancingMethod()
