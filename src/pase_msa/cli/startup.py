"""A quick start of `pase`: what is imported on the way to the first step, and no more.

Only the command line does this. A program of a user's own imports the packages as they are.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Objects before the garbage collector looks for cycles. Importing makes millions of objects and no garbage; at Python's
# own threshold of 700, a quarter of the start went into looking for it.
_THRESHOLDS = (100_000, 50, 100)
# Lightning imports torchmetrics, which imports these for metrics of sound, text and pictures that PaSE does not use
_OPTIONAL = ("matplotlib", "scipy", "torchaudio", "torchvision", "transformers")


@contextlib.contextmanager
def quick_start() -> Iterator[None]:
    """Import torchmetrics without its optional parts, and collect garbage less often, for a while."""
    before, finder = gc.get_threshold(), _TorchmetricsFinder()
    gc.set_threshold(*_THRESHOLDS)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


class _TorchmetricsFinder(MetaPathFinder):
    """Finds torchmetrics, once, with a loader that hides the optional packages from it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchmetrics":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _LeanLoader(spec.loader)
        return spec


class _LeanLoader(Loader):
    """Loads a package that asks `lightning_utilities` for optional packages, which it does not find meanwhile."""

    def __init__(self, real: Loader) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the package, and leave it with its real loader."""
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self.real
        with _hidden(_OPTIONAL):
            self.real.exec_module(module)


@contextlib.contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """Let `lightning_utilities` answer that these packages are not installed."""
    imports: Any = importlib.import_module("lightning_utilities.core.imports")
    available, met = imports.package_available, imports.RequirementCache.__bool__

    def still_available(package_name: str) -> bool:
        return package_name not in packages and bool(available(package_name))

    def still_met(requirement: Any) -> bool:
        name = re.match(r"[\w-]*", requirement.requirement or requirement.module or "")
        return not (name and name[0] in packages) and bool(met(requirement))

    imports.package_available, imports.RequirementCache.__bool__ = still_available, still_met
    try:
        yield
    finally:
        imports.package_available, imports.RequirementCache.__bool__ = available, met
