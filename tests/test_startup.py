"""The quick start of the command line changes when things happen, not what they give."""

import gc
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.model_selection import GroupKFold, KFold

from pase_msa.cli.startup import quick_start
from pase_msa.heldout.contributions import quantile
from pase_msa.heldout.diagnosis import _folds

SLIM = """
import sys
from pase_msa.cli.startup import quick_start
with quick_start():
    import torchmetrics
from torchmetrics.utilities.imports import _MATPLOTLIB_AVAILABLE
wanted = ("matplotlib", "transformers", "scipy.signal")
print([name for name in wanted if name in sys.modules], bool(_MATPLOTLIB_AVAILABLE))
"""


def expected(videos, groups, seed):
    parts = len(videos) if groups is None else len(np.unique(groups))
    if groups is None or parts < 2:
        splitter = KFold(min(5, len(videos)), shuffle=True, random_state=seed).split(videos)
    else:
        splitter = GroupKFold(min(5, parts), shuffle=True, random_state=seed).split(videos, groups=groups)
    folds = np.zeros(len(videos), dtype=np.int64)
    for number, (_, members) in enumerate(splitter):
        folds[members] = number
    return folds


@pytest.mark.parametrize("count", [2, 7, 50])
@pytest.mark.parametrize("by_video", [False, True])
def test_folds_are_those_of_scikit_learn(count, by_video):
    videos = 3 * np.random.default_rng(count).integers(0, 9, count)
    groups = videos if by_video else None
    np.testing.assert_array_equal(_folds(videos, groups, 5), expected(videos, groups, 5))


def test_one_video_is_folded_by_utterance():
    videos = np.zeros(9, dtype=np.int64)
    np.testing.assert_array_equal(_folds(videos, videos, 1), expected(videos, videos, 1))


def test_quantiles_are_those_of_students_distribution():
    assert quantile(0.975, 12) == student.ppf(0.975, 11)


def test_the_quick_start_ends_with_the_program_as_it_was():
    before = gc.get_threshold(), list(sys.meta_path)
    with quick_start():
        pass
    assert (gc.get_threshold(), sys.meta_path) == before


def test_packages_that_torchmetrics_could_use_are_not_imported_and_still_there():
    done = subprocess.run([sys.executable, "-c", SLIM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"
