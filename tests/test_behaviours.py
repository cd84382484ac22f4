"""What papers report: a pair that is quick to measure, and how a row is judged and written."""

import dataclasses

import pytest

from experiments import behaviours
from experiments.behaviours import BEHAVIOURS, holds


def test_the_heads_of_self_mm_wait_for_their_pseudo_labels():
    first, later = BEHAVIOURS["self_mm"].measure(1)
    assert first == 0
    assert later > 0.1


@pytest.mark.parametrize(
    ("claim", "pair", "expected"),
    [("more", (2.0, 1.0), True), ("more", (1.0, 1.0), False), ("less", (2.0, 1.0), False), ("equal", (1.0, 1.0), True)],
)
def test_a_claim_is_about_both_of_a_pair(claim, pair, expected):
    assert holds(claim, pair) is expected


def test_a_row_that_goes_against_the_claim_in_one_seed_is_not_shown():
    rows = [{"behaviour": "gcnet", "seed": 1, "with": "0.8", "without": "0.6"}]
    assert "| conversation: 80.0 | each utterance by itself: 60.0 | yes, 1 of 1 seeds |" in behaviours.table(rows)
    rows.append({"behaviour": "gcnet", "seed": 2, "with": "0.5", "without": "0.6"})
    assert behaviours.table(rows).endswith("| no, 1 of 2 seeds |")


def test_an_unknown_name_is_refused_with_the_nearest_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["behaviours", "gcnett", "--out", str(tmp_path / "out.md")])
    with pytest.raises(SystemExit):
        behaviours.main()
    assert "did you mean 'gcnet'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_values_that_are_there_are_kept_and_the_others_measured(monkeypatch, tmp_path):
    asked = []

    def measure(seed):
        asked.append(seed)
        return 0.5, 0.25

    monkeypatch.setitem(BEHAVIOURS, "gcnet", dataclasses.replace(BEHAVIOURS["gcnet"], measure=measure))
    for seeds in ("1", "3"):
        monkeypatch.setattr("sys.argv", ["behaviours", "gcnet", "--seeds", seeds, "--out", str(tmp_path / "out.md")])
        behaviours.main()
    assert asked == [1, 2, 3]
    assert "| yes, 3 of 3 seeds |" in (tmp_path / "out.md").read_text()
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4
