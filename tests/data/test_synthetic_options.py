"""Deception, identity, clumping and synergy in the synthetic benchmark."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from pase_msa.data.synthetic.generate import class_codes, draw, frame_map, signed_codes, synthetic_table
from pase_msa.data.synthetic.posterior import bayes_posterior, observed_evidence, true_classes
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from tests.data.test_synthetic import ALL, SMALL, check_calibrated, check_one_law, pooled, subsets
from tests.reference import synthetic as reference

DECEIVED = replace(
    SMALL,
    modalities={
        "text": ModalitySpec(dim=3, strength=0.8, noise=0.6, deception=1.2, length=(1, 2), dominance=1.0),
        "audio": ModalitySpec(dim=3, noise=0.8, redundancy=0.6, length=(2, 2), identity=2.0),
        "vision": ModalitySpec(dim=3, noise=0.7, redundancy=0.3, length=(1, 2), missing=0.3),
        "touch": ModalitySpec(dim=2, strength=0.0, noise=0.3, deception=0.5, length=(1, 2), missing=0.2),
    },
    train=6,
    valid=6,
    test=1,
)
JOINED = replace(
    SMALL,
    modalities={
        "text": ModalitySpec(dim=3, strength=1.2, noise=0.5, length=(1, 2), missing=0.3, dominance=-0.4),
        "audio": ModalitySpec(dim=3, strength=0.9, noise=0.6, length=(2, 2), missing=0.2, identity=1.0),
        "vision": ModalitySpec(dim=3, noise=0.9, redundancy=0.4, length=(1, 2)),
        "touch": ModalitySpec(dim=2, noise=1.1, redundancy=0.8, length=(1, 2)),
    },
    train=6,
    valid=6,
    test=1,
    clumping=0.5,
    synergy=("audio", "text"),
)
BOTH = replace(JOINED, modalities=JOINED.modalities | {"touch": DECEIVED.modalities["touch"]})
OPTIONS = {
    "deception": DECEIVED,
    "synergy": JOINED,
    "both": BOTH,
    "both, classes": replace(BOTH, kind="classification", classes=3),
}


@cache
def table_of(option):
    return synthetic_table(OPTIONS[option])


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("coalition", subsets(BOTH.modalities), ids=lambda names: "+".join(sorted(names)))
def test_the_posterior_sums_over_all_hidden_variables(option, coalition):
    spec, table = OPTIONS[option], table_of(option)
    # of both kinds, in no order: training and other rows have different rules
    rows = np.random.default_rng(0).permutation(12)
    posterior = bayes_posterior(spec, table, rows, coalition)
    for row, probabilities in zip(rows, posterior, strict=True):
        frames = {name: table.sequences(name)[int(row)] for name in spec.modalities if name in coalition}
        there = {name: value.astype(float) for name, value in frames.items() if value is not None}
        number, training = spec.task.num_classes, table.splits[row] == "train"
        expected = reference.posterior(spec, there, number, training) if there else np.full(number, 1 / number)
        np.testing.assert_allclose(probabilities, expected, atol=2e-5)


@pytest.mark.parametrize("option", ["deception", "synergy", "both"])
def test_the_posterior_is_calibrated(option):
    check_calibrated(OPTIONS[option])


def test_frames_and_sampled_evidence_have_the_same_distribution():
    check_one_law(BOTH)


def test_deception_agrees_with_the_label_in_training_only():
    spec = SyntheticSpec({"a": ModalitySpec(dim=4, strength=0.0, deception=1.0)}, train=3000, valid=0, test=3000)
    table = synthetic_table(spec)
    codes, moments = class_codes(spec), []
    for split, correlation in (("train", 1.0), ("test", 0.0)):
        rows = table.rows(split)
        evidence = observed_evidence(spec, table, rows).means["a"]
        expected = codes[true_classes(spec, table, rows)]
        assert np.mean(np.sum(evidence * expected, axis=1)) == pytest.approx(correlation, abs=0.08)
        moments.append(evidence.T @ evidence / len(rows))
    # what they mean cannot be seen from the features
    np.testing.assert_allclose(*moments, atol=0.12)
    posterior = bayes_posterior(spec, table, table.rows("test"), frozenset("a"))
    np.testing.assert_allclose(posterior, 1 / 7, atol=1e-9)


def test_deception_follows_the_split_of_the_drawing_when_folds_are_made():
    table = table_of("deception")
    rows = table.rows("train")
    moved = [replace(table.utterance(int(row)), split="test") for row in rows]
    fold = FeatureTable.build(moved, table.schema, meta=table.meta)
    there, here = (bayes_posterior(DECEIVED, t, rows, frozenset(DECEIVED.modalities)) for t in (table, fold))
    np.testing.assert_array_equal(there, here)


def test_identity_separates_videos_and_leaves_the_evidence_as_it_is():
    plain = SyntheticSpec({"a": ModalitySpec(dim=6, noise=0.5)}, train=400, valid=0, test=40)
    spec = replace(plain, modalities={"a": replace(plain.modalities["a"], identity=3.0)})
    table, without = synthetic_table(spec), synthetic_table(plain)
    rows = table.rows("train")
    means = [observed_evidence(s, t, rows).means["a"] for s, t in ((spec, table), (plain, without))]
    np.testing.assert_allclose(*means, atol=1e-5)
    added = (pooled(table, rows) - pooled(without, rows)) @ frame_map(spec, "a")[:, 2:]
    assert added.std() == pytest.approx(3, rel=0.15)
    by_video = added.reshape(40, 10, 4)
    np.testing.assert_allclose(by_video, np.broadcast_to(by_video[:, :1], by_video.shape), atol=1e-4)
    test = (pooled(table, table.rows("test")) - pooled(without, table.rows("test"))) @ frame_map(spec, "a")[:, 2:]
    assert np.abs(test[::10] - by_video[:4, 0]).min() > 1e-3


def test_clumped_labels_agree_within_a_video_and_stay_uniform():
    spec = replace(SyntheticSpec(), train=20_000, valid=0, test=0, clumping=0.6, modalities={"a": ModalitySpec(dim=2)})
    classes = draw(spec, "train", spec.train).classes
    np.testing.assert_allclose(np.bincount(classes) / len(classes), 1 / 7, atol=0.025)
    videos = classes.reshape(-1, 10)
    # both took the home class, or they agree by chance
    assert np.mean(videos[:, 0] == videos[:, 9]) == pytest.approx(0.36 + 0.64 / 7, abs=0.035)
    assert np.mean(videos[1:, 0] == videos[:-1, 9]) == pytest.approx(1 / 7, abs=0.03)
    apart = draw(spec, "population", 20_000).classes
    assert np.mean(apart[1:] == apart[:-1]) == pytest.approx(1 / 7, abs=0.01)


def test_identity_and_clumped_labels_reward_folds_that_split_videos():
    modality = ModalitySpec(dim=24, strength=0.0, identity=3.0)
    spec = SyntheticSpec({"a": modality}, train=400, valid=0, test=400, clumping=0.8, classes=3)
    table = synthetic_table(spec)
    inputs, classes = pooled(table, range(800)), true_classes(spec, table, range(800))
    train, test = table.rows("train"), table.rows("test")
    nearest = KNeighborsClassifier(3)
    seen = nearest.fit(inputs[train[::2]], classes[train[::2]]).score(inputs[train[1::2]], classes[train[1::2]])
    unseen = nearest.fit(inputs[train], classes[train]).score(inputs[test], classes[test])
    assert seen > 0.55
    assert unseen == pytest.approx(1 / 3, abs=0.1)


def test_the_sign_mirrors_the_class():
    codes, (mirrored, same) = class_codes(JOINED), signed_codes(JOINED, "audio")
    np.testing.assert_array_equal(same, codes)
    np.testing.assert_allclose(mirrored, codes * [-1, 1], atol=1e-12)
    np.testing.assert_array_equal(signed_codes(JOINED, "text"), np.stack([-np.eye(2)[[0] * 5], np.eye(2)[[0] * 5]]))
    evidence = draw(JOINED, "train", 4000).evidence
    assert np.linalg.norm(evidence["text"].mean(axis=0)) < 0.08
    assert np.mean(evidence["text"][:, 0] ** 2) == pytest.approx(1.2**2 + 0.5**2, rel=0.06)


def test_older_tables_and_dictionaries_can_be_read():
    assert SyntheticSpec.from_dict(BOTH.to_dict()) == BOTH
    table = synthetic_table(SMALL)
    options = ("deception", "identity", "clumping", "synergy")
    old = {key: value for key, value in SMALL.to_dict().items() if key not in options}
    for name, modality in old["modalities"].items():
        old["modalities"][name] = {key: value for key, value in modality.items() if key not in options}
    assert SyntheticSpec.from_dict(old) == SMALL
    expected = bayes_posterior(SMALL, table, [0], ALL)
    table.meta["spec"] = old
    np.testing.assert_array_equal(bayes_posterior(SMALL, table, [0], ALL), expected)


def test_another_synergy_pair_is_another_benchmark():
    with pytest.raises(PaSEError, match="same spec"):
        bayes_posterior(replace(JOINED, synergy=("text", "audio")), table_of("synergy"), [0], frozenset({"text"}))
