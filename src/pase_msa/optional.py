"""Packages that only some parts need: they come with an extra, and one sentence says with which."""

from __future__ import annotations

from importlib.util import find_spec

from pase_msa.errors import PaSEError


def installed(package: str) -> bool:
    """Whether a package can be imported; it is not imported here."""
    return find_spec(package) is not None


def need(extra: str, *packages: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        extra: of `pase-msa`, such as "report".
        packages: names under which they are imported, such as "matplotlib".

    Errors:
        PaSEError: one is not installed; the sentence says how to install it.
    """
    if missing := [name for name in packages if not installed(name)]:
        what = "package" if len(missing) == 1 else "packages"
        raise PaSEError(
            f"This needs the {what} {', '.join(missing)}, not installed here; run `pip install 'pase-msa[{extra}]'`."
        )
