"""Packages that only some parts need: they come with an extra, and one sentence says with which."""

from __future__ import annotations

from importlib.util import find_spec

from pase_msa.errors import PaSEError

#: package, as it is imported -> the extra of pase-msa that brings it
EXTRAS = {
    "transformers": "text",
    "h5py": "hdf5",
    "matplotlib": "report",
    "jinja2": "report",
    "optuna": "studies",
    "requests": "ask",
    "gguf": "gguf",
    "accelerate": "gguf",
    "tensorboard": "tensorboard",
    "ray": "ray",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "av": "media",
    "PIL": "media",
    "faster_whisper": "media",
    "pocketsphinx": "media",
    "librosa": "media",
    "ai_edge_litert": "media",
    "pympi": "media",
    "praatio": "media",
    "webvtt": "media",
    "gradio": "demo",
    "fastapi": "demo",
    "uvicorn": "demo",
    "websockets": "demo",
    "prometheus_client": "demo",
    "opensmile": "egemaps",
}


def installed(package: str) -> bool:
    """Whether a package can be imported; it is not imported here."""
    return find_spec(package) is not None


def need(*packages: str) -> None:
    """Refuse to go on without packages that an extra brings.

    Args:
        packages: names in `EXTRAS`.

    Errors:
        PaSEError: one of them is not installed; the sentence says how to install it.
    """
    if missing := [name for name in packages if not installed(name)]:
        raise PaSEError(how_to_install(*missing))


def how_to_install(*packages: str) -> str:
    """The sentence about packages of `EXTRAS` that are missing."""
    extras = ",".join(sorted({EXTRAS[name] for name in packages}))
    what = "package" if len(packages) == 1 else "packages"
    return f"This needs the {what} {', '.join(packages)}, not installed here; run `pip install 'pase-msa[{extras}]'`."
