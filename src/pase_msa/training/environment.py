"""The versions and the hardware behind a result, written beside it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

_PACKAGES = ("pase-msa", "torch", "lightning", "torchmetrics", "transformers", "POT", "datasets", "numpy")


def environment() -> dict[str, Any]:
    """Python, system, hardware and versions of the packages that numbers depend on, as plain containers."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "packages": versions,
    }
