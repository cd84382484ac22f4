"""What every table and figure on disk keeps to."""

import re

import pytest

from pase_msa import plugins

PLUGINS = plugins.names("paper")
each_plugin = pytest.mark.parametrize("name", PLUGINS)
SENTENCE = re.compile(r"[A-Z`±–-].*[.?!]", re.S)
BASE = {
    "model": {"width": 4},
    "encoders": {"default": {"hidden": 4}},
    "training": {"epochs": 1, "batch_size": 16, "accelerator": "cpu"},
}
