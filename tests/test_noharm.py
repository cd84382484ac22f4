"""The study of harm: partitions by video, paired statistics, synthetic cases, grading of verdicts."""

import csv

import numpy as np
import pytest

from experiments import noharm, verdicts
from experiments.partitions import partition
from experiments.synthetic_cases import BASE, CASES
from pase_msa.data import open_table


@pytest.fixture
def folder(tmp_path):
    rows = [
        {"id": f"u{i}", "video": f"v{i // 4}", "split": ("train", "train", "valid", "test", "test")[i // 4 % 5]}
        for i in range(80)
    ]
    root = tmp_path / "data"
    root.mkdir()
    with (root / "utterances.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=["id", "video", "split", "sentiment"])
        writer.writeheader()
        writer.writerows({**row, "sentiment": i % 5 - 2} for i, row in enumerate(rows))
    np.save(root / "audio.npy", np.arange(160.0, dtype=np.float32).reshape(80, 2))
    return root


def test_a_partition_moves_whole_videos_and_keeps_their_number(folder, tmp_path):
    made = open_table(partition(folder, tmp_path / "out", 0))
    made.check_splits()
    split = dict(zip(made.videos, made.splits, strict=True))
    assert sorted(split.values()) == ["test"] * 8 + ["train"] * 8 + ["valid"] * 4
    assert made.splits.tolist() != open_table(folder).splits.tolist()


def test_a_partition_keeps_features_with_their_rows(folder, tmp_path):
    made, original = open_table(partition(folder, tmp_path / "out", 3)), open_table(folder)
    assert made.ids == original.ids
    assert np.array_equal(made.sequences("audio").frames(range(80)), original.sequences("audio").frames(range(80)))


def test_a_partition_is_a_function_of_its_number(folder, tmp_path):
    splits = [
        open_table(partition(folder, tmp_path / where, number)).splits.tolist()
        for where, number in (("one", 1), ("two", 1), ("two", 2))
    ]
    assert splits[0] == splits[1] != splits[2]


def test_paired_interval_and_sign_flips():
    mean, low, high, p = noharm.paired(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0
    # Student's 97.5 % quantile with two degrees of freedom is 4.3027
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert p == 2 / 8  # of eight sign patterns, all plus and all minus are as extreme


def test_symmetric_differences_are_not_significant():
    mean, low, high, p = noharm.paired(np.array([-1.0, 1.0, -2.0, 2.0]))
    assert mean == 0.0
    assert low == -high
    assert p == 1.0


def test_a_unit_is_the_mean_of_its_seeds():
    rows = [
        {"variant": "concat", "unit": unit, "seed": seed, "acc2_negpos": value}
        for unit, seed, value in (("a", 1, 0.5), ("a", 2, 0.7), ("b", 1, 0.9))
    ]
    assert noharm.by_unit(rows, "concat", "acc2_negpos").tolist() == pytest.approx([60.0, 90.0])


@pytest.mark.parametrize("case", list(CASES))
def test_the_best_subset_leaves_out_modalities_without_information(case):
    useful = {name for name, spec in CASES[case].modalities.items() if spec.strength > 0}
    assert set(CASES[case].best) == useful


def test_cases_that_share_their_best_subset_have_the_same_modalities_there():
    names = list(CASES)
    sharing = [case for case in names if noharm.shares(case, names)]
    assert sharing == ["deceptive 0.1", "deceptive 0.3", "deceptive 0.5", "deceptive 1.0"]
    assert all({name: CASES[case].modalities[name] for name in BASE} == BASE for case in [*sharing, "noise"])


@pytest.mark.parametrize(
    ("kind", "verdict", "grade"),
    [
        ("weak", "useful", "right"),
        ("weak", "uninformative", "wrong"),
        ("deceptive 0.1", "useful", "wrong"),
        ("deceptive 1.0", "deceptive", "right"),
        ("noise", "memorised", "right"),
        ("identity", "undecided", "undecided"),
    ],
)
def test_a_verdict_is_graded_by_the_kind_of_the_modality(kind, verdict, grade):
    assert verdicts.grade(kind, verdict) == grade


def test_a_draw_names_kinds_and_verdicts():
    drawn, seconds = verdicts.draw(2, 0)
    assert drawn[0][0] == "truthful"
    assert {verdict for _, verdict in drawn} <= set(verdicts.VERDICTS)
    assert seconds > 0


def test_the_fine_tuned_methods_share_their_training_options():
    methods = noharm.fine_tuned()
    assert set(noharm.METHODS) | {"text"} == set(methods)
    assert methods["text"]["modalities"] == ["text"]
    assert all(options["text"]["frozen"] is False for options in methods.values())
    assert len({str(options["training"]) for options in methods.values()}) == 1


def test_the_fitted_form_of_the_bayes_rule_is_near_it(tmp_path):
    table = open_table(CASES["weak"].write(tmp_path / "weak", 1))
    accuracy = noharm.reachable(table, CASES["weak"].best)
    assert 75 < accuracy < 90
    assert noharm.reachable(table, ("x",)) < accuracy - 5
