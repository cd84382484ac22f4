"""Robust location and scale: what outliers do not change, and what must not be taken for one."""

import numpy as np
import pytest

from pase_msa.data import scaling
from pase_msa.data.columns import SequenceColumn
from pase_msa.data.scaling import column_scale, scale_of

RNG = np.random.default_rng(0)
CLEAN = {
    "normal": RNG.normal(3, 2, 400),
    "uniform": RNG.uniform(-1, 1, 400),
    "binary": (RNG.random(400) < 0.5).astype(float),
    "rarely one": (np.arange(400) % 100 == 7).astype(float),
    "mostly zero": np.where(RNG.random(400) < 0.85, 0.0, RNG.uniform(1, 5, 400)),
    "nearly zero, at times large": np.where(RNG.random(400) < 0.8, RNG.normal(0, 0.01, 400), RNG.uniform(1, 3, 400)),
    "counts": RNG.poisson(0.4, 400).astype(float),
    "exponential": RNG.exponential(2.0, 400),
    "constant": np.full(400, 7.0),
    "two groups": np.concatenate([RNG.normal(-50, 1, 200), RNG.normal(50, 1, 200)]),
}


@pytest.mark.parametrize("name", CLEAN)
def test_data_without_outliers_have_their_plain_mean_and_deviation(name):
    values = CLEAN[name]
    scale = scale_of(values[:, None])
    np.testing.assert_allclose(scale.mean, values.mean(), rtol=1e-9)
    np.testing.assert_allclose(scale.deviation, values.std(), rtol=1e-6, atol=1e-12)
    assert not scale.dominated.any()


@pytest.mark.parametrize("name", sorted(set(CLEAN) - {"constant"}))
@pytest.mark.parametrize("wild", [[1e7], [-1.5e7, 2.7e7], [1e6] * 12, [3e38, -3e38]], ids=["one", "both", "few", "max"])
def test_wild_values_do_not_set_the_scale(name, wild):
    if name == "rarely one" and len(wild) > 2:
        pytest.skip("more wild values than ones: neither is the rule")
    values = CLEAN[name]
    scale = scale_of(np.concatenate([values, wild])[:, None])
    assert scale.dominated.all()
    assert scale.beyond.tolist() == [len(wild)]
    assert abs(scale.mean[0] - values.mean()) < values.std()
    assert 0.5 < scale.deviation[0] / values.std() < 8


def test_one_wild_value_in_a_constant_is_no_information_about_the_scale_of_others():
    frames = np.stack([np.r_[np.full(79, 7.0), 1e7], RNG.normal(size=80)], axis=1)
    assert np.isfinite(scale_of(frames).inverse).all()


def test_a_few_whole_utterances_in_another_unit_do_not_set_the_scale():
    rows = [RNG.normal(size=(5, 3)).astype(np.float32) for _ in range(80)]
    clean = column_scale(SequenceColumn.from_arrays(rows, 3), range(80))
    spoilt = column_scale(
        SequenceColumn.from_arrays([r * 1e6 if i < 4 else r for i, r in enumerate(rows)], 3), range(80)
    )
    assert (spoilt.deviation < 3 * clean.deviation).all()


def test_absent_rows_count_nowhere():
    rows = [RNG.normal(size=(5, 3)).astype(np.float32) if i % 2 else None for i in range(40)]
    here = [row for row in rows if row is not None]
    scale = column_scale(SequenceColumn.from_arrays(rows, 3), range(40))
    np.testing.assert_allclose(scale.mean, np.concatenate(here).mean(0, dtype=np.float64), atol=1e-7)


def test_blocks_and_a_sample_give_the_scale_of_the_whole(monkeypatch):
    rows = [RNG.normal(size=(5, 3)).astype(np.float32) for _ in range(200)]
    column = SequenceColumn.from_arrays(rows, 3)
    whole = column_scale(column, range(200))
    monkeypatch.setattr(scaling, "_BLOCK", 60)
    monkeypatch.setattr(scaling, "_SAMPLE", 600)
    parts = column_scale(column, range(200))
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-9)
    np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-9)


def test_no_block_is_larger_than_its_limit(monkeypatch):
    column = SequenceColumn.from_arrays([np.zeros((4, 3), np.float32)] * 50, 3)
    monkeypatch.setattr(scaling, "_BLOCK", 60)
    assert max(len(block) for block in scaling.frame_blocks(column, range(50))) * 3 <= 60


def test_infinite_and_missing_values_enter_no_statistic():
    values = RNG.normal(size=100)
    dirty = np.concatenate([values, [np.nan] * 30, [np.inf] * 30, [-np.inf] * 10])
    np.testing.assert_allclose(scale_of(dirty[:, None]).deviation, values.std())
