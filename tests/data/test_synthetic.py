from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pase_msa.data.synthetic.generate import class_codes, frame_map, synthetic_table
from pase_msa.data.synthetic.posterior import bayes_posterior, log_posterior, sampled_evidence, true_classes
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from tests.reference import synthetic as reference

SMALL = SyntheticSpec(
    {
        "text": ModalitySpec(dim=3, noise=0.5, redundancy=0.5, length=(1, 3), dominance=2.0),
        "audio": ModalitySpec(dim=4, strength=0.7, noise=0.8, redundancy=1.0, length=(2, 2)),
        "vision": ModalitySpec(dim=3, strength=1.5, noise=1.0, missing=0.4, length=(1, 2), dominance=-0.5),
    },
    classes=5,
    train=30,
    valid=20,
    test=30,
    utterances_per_video=7,
    seed=3,
)
EMOTION = replace(SMALL, kind="classification", classes=("sad", "happy", "angry"))
ALL = frozenset(SMALL.modalities)


def subsets(names):
    return [frozenset(c) for size in range(1, len(names) + 1) for c in combinations(sorted(names), size)]


@pytest.fixture(scope="module")
def default() -> FeatureTable:
    return synthetic_table()


def test_the_seed_determines_every_number(default):
    assert synthetic_table().fingerprint() == default.fingerprint()
    assert synthetic_table(SyntheticSpec(seed=1)).fingerprint() != default.fingerprint()


@pytest.mark.parametrize(
    ("spec", "labels", "sizes", "frame"),
    [
        (SyntheticSpec(), [1, -1, 1, 1, 3, -1], [1.080883, 0.895779, 0.900429], [0.378395, -0.634315, -1.095095]),
        (SMALL, [-1.5, 0, 3, 3, 3, 1.5], [1.959202, 0.81744, 0.691054], [-0.138905, 1.164228, -0.204459]),
        (
            EMOTION,
            ["happy", "happy", "angry", "angry", "angry", "happy"],
            [1.985369, 0.828797, 0.659025],
            [-0.141583, 0.954377, 0.15367],
        ),
    ],
    ids=["default", "regression", "classification"],
)
def test_options_at_their_default_change_no_number(spec, labels, sizes, frame):
    """Numbers from before there were deception, identity, clumping and synergy."""
    table = synthetic_table(spec)
    assert list(table.labels(spec.task.label)[:6]) == labels
    means = [np.abs(table.sequences(name).frames(range(len(table)))).mean(dtype=float) for name in spec.modalities]
    np.testing.assert_allclose(means, sizes, atol=2e-6)
    np.testing.assert_allclose(table.sequences("audio")[3][0, :3], frame, atol=2e-6)


def test_a_table_on_disk_is_the_same(tmp_path):
    table = synthetic_table(SMALL, path=tmp_path / "table")
    assert table.fingerprint() == synthetic_table(SMALL).fingerprint()
    opened = FeatureTable.load(tmp_path / "table")
    assert opened.meta["synthetic"] is True
    assert SyntheticSpec.from_dict(opened.meta["spec"]) == SMALL
    # the rule works on what was read back
    assert bayes_posterior(SMALL, opened, [0, 1], ALL).shape == (2, 5)


def test_the_table_is_marked_as_synthetic(default):
    assert default.meta["format"] == "synthetic"
    assert "not human data" in default.meta["note"]
    assert default.meta["label_range"] == [-3, 3]
    assert default.schema.labels == {"sentiment": "real"}
    assert set(default.labels("sentiment")) == {-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}
    emotions = synthetic_table(EMOTION)
    assert emotions.schema.labels == {"emotion": "class"}
    assert emotions.meta["classes"] == ["sad", "happy", "angry"]
    assert set(emotions.labels("emotion")) == {"sad", "happy", "angry"}


def test_splits_are_by_video(default):
    default.check_splits()
    assert [len(default.rows(split)) for split in ("train", "valid", "test")] == [600, 200, 400]
    _, counts = np.unique(default.videos, return_counts=True)
    assert set(counts) == {10}
    assert np.unique(synthetic_table(SMALL).videos, return_counts=True)[1].max() == 7


def test_lengths_follow_the_spec(default):
    for name, modality in SyntheticSpec().modalities.items():
        column = default.sequences(name)
        lengths = column.lengths[column.present]
        assert (lengths.min(), lengths.max()) == modality.length
        assert np.isfinite(column.frames(default.rows("test"))).all()


def test_missing_rates_follow_the_spec_and_no_utterance_is_empty():
    modalities = {
        name: replace(m, missing=rate)
        for (name, m), rate in zip(SMALL.modalities.items(), (0.5, 0.3, 0.0), strict=True)
    }
    table = synthetic_table(replace(SMALL, modalities=modalities, train=2000))
    rates = [1 - table.sequences(name).present.mean() for name in modalities]
    np.testing.assert_allclose(rates, (0.5, 0.3, 0.0), atol=0.04)
    sparse = {name: replace(m, missing=0.9) for name, m in SMALL.modalities.items()}
    table = synthetic_table(replace(SMALL, modalities=sparse))
    assert np.any([table.sequences(name).present for name in sparse], axis=0).all()


def test_a_change_of_one_split_or_modality_leaves_the_others():
    table = synthetic_table(SMALL)
    changed = dict(SMALL.modalities) | {"audio": replace(SMALL.modalities["audio"], strength=0.1)}
    other = synthetic_table(replace(SMALL, modalities=changed, train=11))
    rows, there = table.rows("test"), other.rows("test")
    np.testing.assert_array_equal(np.array(table.labels("sentiment"))[rows], np.array(other.labels("sentiment"))[there])
    frames, same = table.sequences("vision").frames(rows), other.sequences("vision").frames(there)
    np.testing.assert_array_equal(frames, same)


def test_codes_and_maps():
    for spec, size in ((SMALL, 2), (EMOTION, 2), (SyntheticSpec(kind="classification", classes=4), 3)):
        codes = class_codes(spec)
        assert codes.shape == (spec.task.num_classes, size)
        assert np.mean(np.sum(codes**2, axis=1)) == pytest.approx(1)
        for name in spec.modalities:
            turn = frame_map(spec, name)
            np.testing.assert_allclose(turn @ turn.T, np.eye(len(turn)), atol=1e-12)
    assert np.all(np.diff(class_codes(SMALL)[:, 0]) > 0)
    simplex = class_codes(SyntheticSpec(kind="classification", classes=4))
    apart = [np.linalg.norm(a - b) for a, b in combinations(simplex, 2)]
    np.testing.assert_allclose(apart, apart[0])


@pytest.mark.parametrize("spec", [SMALL, EMOTION], ids=["regression", "classification"])
@pytest.mark.parametrize("coalition", subsets(ALL), ids=lambda names: "+".join(sorted(names)))
def test_the_posterior_is_that_of_the_joint_gaussian(spec, coalition):
    table = synthetic_table(spec)
    rows = table.rows("valid")
    posterior = bayes_posterior(spec, table, rows, coalition)
    for row, probabilities in zip(rows, posterior, strict=True):
        frames = {name: table.sequences(name)[int(row)] for name in spec.modalities if name in coalition}
        there = {name: value.astype(float) for name, value in frames.items() if value is not None}
        classes = spec.task.num_classes
        expected = reference.posterior(spec, there, classes) if there else np.full(classes, 1 / classes)
        np.testing.assert_allclose(probabilities, expected, atol=2e-5)


def check_calibrated(spec):
    evidence, classes = sampled_evidence(spec, 20_000)
    for coalition in subsets(spec.modalities):
        posterior = np.exp(log_posterior(spec, evidence, coalition))
        right = posterior.argmax(axis=1) == classes
        assert right.mean() == pytest.approx(posterior.max(axis=1).mean(), abs=0.012)
        np.testing.assert_allclose(posterior.mean(axis=0), 1 / 5, atol=0.012)


def test_the_posterior_is_calibrated():
    check_calibrated(SMALL)


def check_one_law(spec):
    spec = replace(spec, train=1, valid=0, test=4000)
    table = synthetic_table(spec)
    rows, coalition = table.rows("test"), frozenset(spec.modalities)
    evidence, _ = sampled_evidence(spec, 20_000)
    from_frames = bayes_posterior(spec, table, rows, coalition).max(axis=1)
    sampled = np.exp(log_posterior(spec, evidence, coalition)).max(axis=1)
    assert from_frames.mean() == pytest.approx(sampled.mean(), abs=0.015)


def test_frames_and_sampled_evidence_have_the_same_distribution():
    check_one_law(SMALL)


def test_dominance_changes_the_speed_of_learning_and_no_information():
    flat = {"text": ModalitySpec(noise=0.5)}
    steep = {"text": ModalitySpec(noise=0.5, dominance=2.0)}
    losses = []
    posteriors = []
    for modalities in (flat, steep):
        spec = SyntheticSpec(modalities)
        table = synthetic_table(spec)
        rows = table.rows("train")
        posteriors.append(bayes_posterior(spec, table, table.rows("test"), frozenset(modalities)))
        inputs = pooled(table, rows)
        inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
        losses.append(loss_after(inputs, true_classes(spec, table, rows), steps=20))
    np.testing.assert_allclose(*posteriors, atol=1e-4)
    assert losses[1] < losses[0] - 0.1


def loss_after(inputs, classes, steps):
    """Softmax regression's loss after some steps of gradient descent."""
    target = np.eye(7)[classes]
    weights = np.zeros((inputs.shape[1], 7))
    for _ in range(steps):
        scores = np.exp(inputs @ weights)
        probabilities = scores / scores.sum(axis=1, keepdims=True)
        weights -= 0.1 * inputs.T @ (probabilities - target) / len(inputs)
    return -np.mean(np.log(np.sum(probabilities * target, axis=1)))


def pooled(table, rows):
    columns = [table.sequences(name) for name in table.modalities]
    return np.concatenate(
        [
            np.stack([np.zeros(c.dim) if (f := c[int(row)]) is None else f.mean(axis=0) for row in rows])
            for c in columns
        ],
        axis=1,
    )


def test_no_linear_model_beats_the_bayes_rule():
    spec = SyntheticSpec(train=1500, valid=1, test=1500)
    table = synthetic_table(spec)
    train, test = table.rows("train"), table.rows("test")
    classes = true_classes(spec, table, range(len(table)))
    model = LogisticRegression(max_iter=1000).fit(pooled(table, train), classes[train])
    bayes = bayes_posterior(spec, table, test, frozenset(spec.modalities)).argmax(axis=1)
    optimum, learned = np.mean(bayes == classes[test]), model.score(pooled(table, test), classes[test])
    assert 0.3 < learned < optimum + 0.01


def test_jitter_spreads_labels_and_keeps_the_class():
    spread = replace(SMALL, jitter=0.9)
    table, plain = synthetic_table(spread), synthetic_table(SMALL)
    labels, values = np.array(table.labels("sentiment")), np.array(plain.labels("sentiment"))
    assert 0.3 < np.abs(labels - values).max() <= 0.9 * 1.5 / 2
    assert labels.min() >= -3
    assert labels.max() <= 3
    rows = range(len(table))
    np.testing.assert_array_equal(true_classes(spread, table, rows), true_classes(SMALL, plain, rows))


def test_with_a_redundancy_of_one_a_second_modality_adds_frames_only():
    # long sequences: the frames' own noise, the only thing that is not shared, averages out
    same = ModalitySpec(dim=4, noise=0.8, redundancy=1.0, length=(400, 400))
    spec = SyntheticSpec({"a": same, "b": replace(same, strength=0.5, noise=0.9)})
    evidence, _ = sampled_evidence(spec, 500)
    alone, both = (np.exp(log_posterior(spec, evidence, frozenset(c))) for c in ("a", "ab"))
    assert np.abs(alone - both).max() < 0.02


def test_generation_is_quick():
    start = time.process_time()
    synthetic_table()
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"missing": 1.0}, "missing"),
        ({"missing": -0.1}, "missing"),
        ({"length": (5, 2)}, "length"),
        ({"length": (0, 2)}, "length"),
        ({"dim": 0}, "dim"),
        ({"strength": float("nan")}, "strength"),
        ({"noise": -1.0}, "noise"),
        ({"redundancy": 1.5}, "redundancy"),
        ({"dominance": -1.0}, "dominance"),
        ({"deception": -0.5}, "deception .* 0 or more"),
        ({"deception": float("inf")}, "deception"),
        ({"identity": float("nan")}, "identity"),
        ({"deception": 1.0, "redundancy": 0.2}, r"redundancy \(with deception\) .* must be 0, found 0.2"),
    ],
)
def test_an_impossible_modality_is_refused(options, words):
    with pytest.raises(PaSEError, match=words):
        ModalitySpec(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "ranking"}, "regression"),
        ({"modalities": {}}, "modalities"),
        ({"classes": 1}, "num_classes"),
        ({"classes": ("bad", "good")}, "classes"),
        ({"kind": "classification", "classes": ("joy", "joy")}, "distinct"),
        ({"kind": "classification", "classes": 40}, "dim of text"),
        ({"jitter": 1.0}, "jitter"),
        ({"train": -1}, "train"),
        ({"train": 0, "valid": 0, "test": 0}, "train"),
        ({"utterances_per_video": 0}, "utterances_per_video"),
        ({"seed": -1}, "seed"),
        ({"modalities": {"text": ModalitySpec(missing=0.5)}}, "only modality"),
        ({"modalities": {"text": ModalitySpec(dim=2, identity=1.0)}}, r"dim of text \(with identity\) .* more than 2"),
        ({"clumping": 1.0}, "clumping"),
        ({"clumping": -0.1}, "clumping"),
        ({"synergy": ("text",)}, "synergy .* two different ones of text, audio, vision"),
        ({"synergy": ("text", "text")}, "two different"),
        ({"synergy": ("text", "smell")}, "two different .* 'smell'"),
        ({"synergy": ("vision", "audio")}, r"redundancy of audio \(with synergy\) .* must be 0, found 0.1"),
        (
            {"modalities": {"a": ModalitySpec(), "b": ModalitySpec(deception=1.0)}, "synergy": ("a", "b")},
            r"deception of b \(with synergy\) .* must be 0, found 1.0",
        ),
    ],
)
def test_an_impossible_benchmark_is_refused(options, words):
    with pytest.raises(PaSEError, match=words):
        SyntheticSpec(**options)


def test_the_bayes_rule_refuses_a_table_of_another_spec(default):
    with pytest.raises(PaSEError, match="same spec"):
        bayes_posterior(SyntheticSpec(seed=5), default, [0], frozenset({"text"}))
    with pytest.raises(PaSEError, match="'smell'"):
        bayes_posterior(SyntheticSpec(), default, [0], frozenset({"smell"}))
