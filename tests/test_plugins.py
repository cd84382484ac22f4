"""Plug-ins are files: listed without being imported, chosen by name, refused with the nearest name."""

import subprocess
import sys

import pytest

from pase_msa import plugins
from pase_msa.errors import PaSEError

KINDS = ("models", "fusion", "balancing", "encoders", "data.formats", "media")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in place of the package's, with modules of kind "toys"."""
    monkeypatch.setattr(plugins, "__file__", str(tmp_path / "plugins.py"))
    (tmp_path / "toys").mkdir()

    def write(name, source):
        (tmp_path / "toys" / f"{name}.py").write_text(source)

    return write


def test_a_plugin_defines_build_or_read_at_the_top_level(folder):
    folder("first", "def build(config):\n    return config\n")
    folder("second", "import pase_msa\n\n\ndef read(path, out=None):\n    return path\n")
    folder("base", "def build_all():\n    def build():\n        pass\n")
    folder("helper", '"""A docstring:\n\ndef build(config):\n"""\nfrom toys.first import build\n')
    folder("method", "class Base:\n    def build(self):\n        pass\n")
    assert plugins.names("toys") == ["first", "second"]


def test_listing_imports_nothing(folder):
    folder("first", "raise RuntimeError('imported')\n\n\ndef build(config):\n    return config\n")
    assert plugins.names("toys") == ["first"]


def test_listing_loads_no_slow_package():
    """In a process of its own, since the others have loaded everything."""
    code = f"""
import sys
from pase_msa import plugins
for kind in {KINDS}:
    assert plugins.names(kind), kind
slow = {{"torch", "lightning", "sklearn", "pyarrow", "transformers", "jsonargparse"}} & set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_that_is_listed_has_its_entry_point(kind):
    if kind == "media":
        pytest.importorskip("av")
    for name in plugins.names(kind):
        module = plugins.load(kind, name)
        assert module.__name__ == f"pase_msa.{kind}.{name}"
        assert callable(getattr(module, "build", None) or module.read)


@pytest.mark.parametrize("name", ["base", "__init__", "pase.build", "PaSE", ""])
def test_what_is_no_plugin_is_refused_with_the_names_there_are(name):
    there = ", ".join(plugins.names("models"))
    with pytest.raises(PaSEError, match=rf"^No plug-in .* in models; there are {there}; "):
        plugins.load("models", name)


def test_the_nearest_name_is_offered():
    with pytest.raises(PaSEError, match=r"did you mean 'concat'\?$"):
        plugins.load("models", "conact")


def test_code_elsewhere_is_reached_by_module_and_attribute():
    assert plugins.load("fusion", "tests.test_plugins:KINDS") is KINDS
    with pytest.raises(PaSEError, match=r"'tests\.nowhere:x' was to be a plug-in of kind 'fusion'"):
        plugins.load("fusion", "tests.nowhere:x")
