"""What every table and figure on disk keeps to."""

import dataclasses
import re

import pandas as pd
import pytest
import yaml

from pase_msa import plugins
from pase_msa.cli.main import main
from pase_msa.data.opening import open_data
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.paper.layout import Figure, Section, Table
from pase_msa.paper.methods import completed
from pase_msa.paper.protocol import Protocol
from pase_msa.paper.results import Results
from pase_msa.paper.run import prepare
from pase_msa.studies.engine import run_cells
from pase_msa.studies.training_cell import study_cell
from pase_msa.training.config import RunConfig
from tests.toys import tiny_spec

PLUGINS = plugins.names("paper")
each_plugin = pytest.mark.parametrize("name", PLUGINS)
SENTENCE = re.compile(r"[A-Z`±–-].*[.?!]", re.S)
BASE = {
    "model": {"width": 4},
    "encoders": {"default": {"hidden": 4}},
    "training": {"epochs": 1, "batch_size": 16, "accelerator": "cpu"},
}
