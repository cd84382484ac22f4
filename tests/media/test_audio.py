"""Acoustics: pitch and level of a tone, and blocks of a long sound against a short one."""

import numpy as np
import pytest

from pase_msa.media.audio import Config, build
from pase_msa.media.base import Media
from pase_msa.media.decode import RATE


def column(track, name):
    return track.values[:, build(Config()).columns.index(name)]


@pytest.mark.parametrize("frequency", [110.0, 220.0, 330.0])
def test_pitch_and_energy_of_a_tone(frequency):
    sound = (0.1 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)).astype(np.float32)
    track = build(Config()).extract(Media(audio=sound, start=3.0))
    assert track.times[0] == 3.0
    assert np.diff(track.times) == pytest.approx(0.01)
    inner = slice(10, -10)
    assert column(track, "voiced")[inner].all()
    assert 2 ** np.median(column(track, "pitch")[inner]) == pytest.approx(frequency, rel=0.01)
    assert np.median(column(track, "energy")[inner]) == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.1)


def test_noise_has_no_pitch():
    sound = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    track = build(Config()).extract(Media(audio=sound))
    assert column(track, "voiced").mean() < 0.05
    assert np.isnan(column(track, "pitch")).mean() > 0.95


def test_blocks_leave_no_seam():
    rng = np.random.default_rng(0)
    long = rng.normal(0, 0.1, 65 * RATE).astype(np.float32)  # more than two blocks of thirty seconds
    track = build(Config()).extract(Media(audio=long))
    assert len(track.values) == 6501
    part = build(Config()).extract(Media(audio=long[25 * RATE : 35 * RATE]))
    names = build(Config()).columns
    same = [
        i for i, name in enumerate(names) if name not in ("pitch", "voiced")
    ]  # these depend on the level of the whole sound
    np.testing.assert_allclose(track.values[2510:3490, same], part.values[10:990, same], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [1, 100, 1024, 48_000, 480_000, 480_001])
def test_any_length_has_frames(length):
    track = build(Config()).extract(Media(audio=np.full(length, 0.1, np.float32)))
    assert len(track.values) == len(track.times) == 1 + max(length, 1024) // 160
