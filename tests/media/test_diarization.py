"""The study of who is named wrongly: its error by hand, and its mixtures."""

import pytest

from experiments import diarization


def test_the_diarisation_error_counts_what_is_missed_false_and_confused():
    truth = [(0.0, 10.0, "a"), (10.0, 20.0, "b"), (18.0, 22.0, "a")]
    exact = diarization.error_of(truth, [(start, end, name.upper()) for start, end, name in truth], collar=0.0)
    assert exact.rate == 0
    assert exact.speech == pytest.approx(24.0)  # what two say at once counts twice
    found = [(0.0, 12.0, "x"), (12.0, 19.0, "y"), (24.0, 25.0, "y")]
    error = diarization.error_of(truth, found, collar=0.0)
    assert error.confused == pytest.approx(2.0)  # x is a, and b speaks from 10 on
    assert error.missed == pytest.approx(5.0)  # the overlap from 18 to 19, twice one second to 20, and two to 22
    assert error.false == pytest.approx(1.0)
    # the edges are at 0, 10, 18, 20 and 22 s
    assert diarization.error_of(truth, found, collar=0.25).speech == pytest.approx(
        24.0 - 0.25 - 0.5 - 0.75 - 0.75 - 0.25
    )


def test_a_mixture_has_the_turns_of_its_dialogue(tmp_path):
    turns = diarization.dialogues(tmp_path / "none.csv", 1, 15.0)[0]
    sound, spoken = diarization.mixture(turns, diarization.MATERIAL["two that differ"], seed=0)
    assert [(start, pytest.approx(end, abs=0.01)) for start, end, _ in spoken] == [turn[:2] for turn in turns]
    assert {name for _, _, name in spoken} == {"voice 0", "voice 1"}
    for start, end, name in spoken:
        part = sound[:, round(22_050 * (start + 0.05)) : round(22_050 * (end - 0.05))].astype(float)
        assert (part[int(name[-1])] ** 2).mean() > 1e4
