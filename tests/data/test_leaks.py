"""Leaks are found in inspection, and training on a label is refused."""

import numpy as np
import pytest

from pase_msa.cli.main import main
from pase_msa.data import open_table
from pase_msa.data.feature_statistics import row_digests
from pase_msa.data.inspect import inspect_table
from pase_msa.data.leaks import find_leaks, repeated_utterances
from tests.data.test_roles import folder

N = 60
RNG = np.random.default_rng(3)
SCORE = RNG.uniform(-3, 3, N)
STARS = RNG.integers(1, 6, N)
NOISE = RNG.normal(size=(N, 4))
MIX = RNG.normal(size=(4, 4))
KIND = {"score": SCORE, "stars": STARS, "emotion": np.array(["sad", "calm", "glad"])[STARS % 3]}


def digests_of(table):
    return {name: row_digests(table.sequences(name)) for name in table.modalities}


def with_label(columns, **arrays):
    return lambda tmp_path: open_table(folder(tmp_path / "d", columns, arrays, N))


COPIES = {
    "a copy": ("score", np.column_stack([NOISE, SCORE])),
    "a scaled copy": ("score", np.column_stack([NOISE[:, :2], 100 - 7 * SCORE])),
    "a rounded copy": ("score", np.column_stack([NOISE, SCORE.round(1)])),
    "its order": ("score", np.column_stack([NOISE, np.exp(2 * SCORE)])),
    "a rotation": ("score", np.column_stack([NOISE[:, :3], SCORE]) @ MIX),
    "one-hot classes": ("emotion", np.eye(3)[STARS % 3]),
    "class numbers": ("emotion", (STARS % 3)[:, None].astype(float)),
    "whole numbers": ("stars", np.column_stack([STARS, STARS**2]).astype(float)),
    "one-hot among others": ("emotion", np.column_stack([NOISE, np.eye(3)[STARS % 3]])),
}


@pytest.mark.parametrize(("label", "values"), COPIES.values(), ids=COPIES)
def test_a_modality_that_is_a_function_of_a_label_is_an_error(label, values, tmp_path):
    table = with_label({label: KIND[label]}, vision=values, audio=NOISE)(tmp_path)
    (leak,) = find_leaks(table)
    assert (leak.modality, leak.label) == ("vision", label)
    errors = [p["message"] for p in inspect_table(table)["problems"] if p["severity"] == "error"]
    assert any("vision is a function of the label" in message for message in errors)


HONEST = {
    "noise": NOISE,
    "a strong signal": SCORE[:, None] + RNG.normal(0, 0.3, (N, 6)),
    "one binary dimension": (NOISE[:, :1] > 0).astype(float),
    "as many dimensions as rows": RNG.normal(size=(N, N)),
    "a constant": np.ones((N, 2)),
}


@pytest.mark.parametrize("values", HONEST.values(), ids=HONEST)
@pytest.mark.parametrize("label", KIND)
def test_features_that_are_no_label_are_left_alone(values, label, tmp_path):
    assert find_leaks(with_label({label: KIND[label]}, audio=values)(tmp_path)) == []


def test_a_modality_that_holds_another_label_than_the_one_that_is_learned_is_found(tmp_path):
    table = with_label({"score": SCORE, "other": STARS}, audio=STARS[:, None].astype(float))(tmp_path)
    assert [leak.label for leak in find_leaks(table)] == ["other"]


def test_a_transcript_that_names_the_class_is_found(tmp_path):
    table = with_label({"emotion": KIND["emotion"], "text": KIND["emotion"]}, audio=NOISE)(tmp_path)
    assert [leak.modality for leak in find_leaks(table)] == ["text"]


SMALL = ["--training.epochs", "1", "--model.width", "8"]


def test_training_on_a_label_is_refused_unless_it_is_meant(tmp_path, capsys):
    root = folder(tmp_path / "d", {"score": SCORE}, {"audio": NOISE, "vision": SCORE[:, None]}, N)
    out = tmp_path / "r"
    assert main(["train", "--data", str(root), "--out", str(out), *SMALL]) == 2
    sentence = capsys.readouterr().err
    assert "vision is a function of the label 'score'" in sentence
    assert "--modalities audio" in sentence
    assert not out.exists()
    assert main(["train", "--data", str(root), "--out", str(out), "--allow-leaks", "true", *SMALL]) == 0


def test_an_utterance_in_two_splits_is_an_error(tmp_path):
    copied = NOISE.copy()
    copied[-1] = copied[0]
    table = with_label({"score": SCORE}, audio=copied)(tmp_path)
    assert repeated_utterances(table, digests_of(table)) == [[0, N - 1]]
    errors = [p["message"] for p in inspect_table(table)["problems"] if p["severity"] == "error"]
    assert any("u0, u59" in message for message in errors)


def test_short_transcripts_that_are_the_same_are_no_copies(tmp_path):
    texts = ["yes"] * N
    table = open_table(folder(tmp_path / "d", {"score": SCORE, "text": texts}, {}, N))
    assert repeated_utterances(table, digests_of(table)) == []


@pytest.mark.parametrize(
    ("values", "warned"),
    [(np.arange(N), True), (RNG.permutation(N) + 1000, True), (SCORE, False), (STARS, False)],
)
def test_labels_that_look_like_ids_are_a_warning(values, warned, tmp_path):
    table = with_label({"number": values}, audio=NOISE)(tmp_path)
    messages = [p["message"] for p in inspect_table(table)["problems"]]
    assert any("as an id is" in message for message in messages) is warned
