"""The diagnosis' reference as a part of a model, against a naive computation from the diagnosis' own parts."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pase_msa.data.dataset import evaluation_loader
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec
from pase_msa.errors import PaSEError
from pase_msa.heldout.diagnose import diagnose_datasets
from pase_msa.heldout.reference import RidgeReference
from pase_msa.models.base import Model
from pase_msa.training.config import RunConfig
from pase_msa.training.run import prepare
from tests.reference import ridge
from tests.toys import NAMES, rows_of, tiny_spec, toy_batch, toy_model, toy_reference

EVERYONE = frozenset(NAMES)
GAMES = [EVERYONE, frozenset({"text"}), frozenset({"audio", "vision"}), frozenset()]
KINDS = {"scores": "regression", "three classes": "classification", "two classes": "classification"}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def diagnosed():
    """Task, datasets and reference of a small clear table, by kind of label."""
    found = {}

    def make(kind):
        if kind not in found:
            sizes = {"train": 160, "valid": 60, "utterances_per_video": 4}
            spec = tiny_spec(KINDS[kind], **sizes)
            modalities = {**spec.modalities, "audio": ModalitySpec(4, length=(1, 3), noise=0.5)}
            classes = 2 if kind == "two classes" else spec.classes
            table = synthetic_table(dataclasses.replace(spec, modalities=modalities, classes=classes))
            run = prepare(RunConfig(model={"name": "concat", "width": 4}), table)
            found[kind] = run.task, run.train, run.valid, diagnose_datasets(run.task, run.train, run.valid).experts
        return found[kind]

    return make


def whole(dataset):
    return next(iter(evaluation_loader(dataset, len(dataset))))


def naive(task, experts, batch, coalition):
    """Class probabilities [n, k], an utterance and an expert at a time, in NumPy."""
    result = np.zeros((len(batch), task.num_classes))
    for row in range(len(batch)):
        for expert in experts.members:
            if not any(name in coalition and batch.present[name][row] for name in expert.coalition):
                result[row] += expert.weight * experts.prior
                continue
            parts, phases, leading = [], experts.offset.copy(), {}
            for name, pooling in experts.poolings.items():
                if name not in expert.coalition:
                    continue
                pooled = np.zeros(len(pooling.center))
                if name in coalition and batch.present[name][row]:
                    frames = batch.features[name][row, : batch.lengths[name][row]].double().numpy()
                    values = [column[np.isfinite(column)] for column in frames.T]
                    moments = [v.mean() if len(v) else np.nan for v in values]
                    if pooling.spreads:
                        moments += [v.std() if len(v) else np.nan for v in values]
                    scaled = (np.array(moments) - pooling.center) * pooling.inverse_scale
                    pooled = np.nan_to_num(np.clip(scaled, -5, 5), nan=0.0)
                parts.append(pooled @ experts.matrices[name])
                phases = phases + parts[-1] @ experts.waves[name]
                leading[name] = (pooled @ experts.leads[name])[None]
            pairs = [pair[0] for pair in ridge.products(leading, list(leading))]
            joint = np.concatenate([np.cos(phases) * np.sqrt(2 / len(phases)), *pairs]) - expert.joint_mean
            logits = np.concatenate([*parts, joint]) @ expert.weights @ expert.slopes + expert.intercepts
            shares = np.exp(logits - logits.max())
            result[row] += expert.weight * shares / shares.sum()
    return result


@each_kind
def test_it_says_what_a_naive_computation_says(kind, diagnosed):
    task, _, valid, experts = diagnosed(kind)
    batch = whole(valid)
    assert not batch.present["vision"].all()
    for game, found in zip(GAMES, RidgeReference.of(task, experts)(batch, GAMES), strict=True):
        np.testing.assert_allclose(found.numpy(), naive(task, experts, batch, game), atol=1e-4)


@each_kind
def test_probabilities_add_up_to_one(kind, diagnosed):
    task, _, valid, experts = diagnosed(kind)
    for found in RidgeReference.of(task, experts)(whole(valid), GAMES):
        assert torch.allclose(found.sum(1), torch.ones(len(found)), atol=1e-5)
        assert (found >= 0).all()


@each_kind
def test_it_tells_the_label_of_new_data(kind, diagnosed):
    task, _, valid, experts = diagnosed(kind)
    batch = whole(valid)
    found = RidgeReference.of(task, experts)(batch, [EVERYONE])[0]
    if task.kind == "regression":
        assert np.corrcoef(task.score(found).numpy(), batch.labels.numpy())[0, 1] > 0.8
    else:
        assert float((found.argmax(1) == batch.labels).float().mean()) > 1.5 / task.num_classes


def test_values_that_are_not_numbers_are_left_out_of_mean_and_deviation(diagnosed):
    task, _, valid, experts = diagnosed("scores")
    batch = whole(valid)
    text = batch.features["text"].clone()
    text[0, 0, 0], text[1, 0, 1], text[2] = np.nan, np.inf, -np.inf
    batch = dataclasses.replace(batch, features={**batch.features, "text": text})
    found = RidgeReference.of(task, experts)(batch, [EVERYONE])[0]
    assert found.isfinite().all()
    np.testing.assert_allclose(found.numpy(), naive(task, experts, batch, EVERYONE), atol=1e-4)


def test_the_only_frame_of_a_sequence_has_no_deviation_over_time(diagnosed):
    task, _, valid, experts = diagnosed("scores")
    batch = whole(valid)
    batch = dataclasses.replace(batch, lengths={name: value.clamp(max=1) for name, value in batch.lengths.items()})
    found = RidgeReference.of(task, experts)(batch, [EVERYONE])[0]
    np.testing.assert_allclose(found.numpy(), naive(task, experts, batch, EVERYONE), atol=1e-4)


@pytest.mark.parametrize("value", [7.0, 1e30, float("nan"), float("inf")])
def test_padding_is_never_read(value):
    model, batch = toy_reference(), toy_batch()
    expected = model(batch, GAMES)
    features = {name: torch.nn.functional.pad(part, (0, 0, 0, 3)) for name, part in batch.features.items()}
    for name, part in features.items():
        part[torch.arange(part.shape[1]) >= batch.lengths[name].unsqueeze(1)] = value
    for one, two in zip(model(dataclasses.replace(batch, features=features), GAMES), expected, strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_what_is_said_of_an_utterance_depends_neither_on_the_others_nor_on_their_order():
    model, batch = toy_reference(), toy_batch()
    together, order = model(batch, [EVERYONE])[0], torch.randperm(len(batch))
    assert torch.allclose(model(rows_of(batch, order), [EVERYONE])[0], together[order], atol=1e-6)
    alone = torch.cat([model(rows_of(batch, [row]), [EVERYONE])[0] for row in range(len(batch))])
    assert torch.allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("name", ["text", "audio"])
def test_withheld_is_absent_is_average(name, diagnosed):
    task, _, valid, experts = diagnosed("scores")
    model, batch = RidgeReference.of(task, experts), whole(valid)
    withheld = model(batch, [EVERYONE - {name}])[0]
    assert torch.equal(model(batch.only(EVERYONE - {name}), [EVERYONE])[0], withheld)
    # one frame at the training mean, and where there is a deviation, enough frames to have the mean one
    pooling = experts.poolings[name]
    dim = batch.features[name].shape[2]
    mean, spread = (torch.tensor(part).float() for part in (pooling.center[:dim], pooling.center[dim:]))
    frames = torch.stack([mean - spread, mean + spread]).expand(len(batch), 2, dim)
    average = dataclasses.replace(
        batch,
        features={**batch.features, name: frames},
        lengths={**batch.lengths, name: torch.full((len(batch),), 2)},
        present={**batch.present, name: torch.ones(len(batch), dtype=torch.bool)},
    )
    assert torch.allclose(model(average, [EVERYONE])[0], withheld, atol=1e-4)


def test_the_features_of_an_absent_modality_are_never_read():
    model, batch = toy_reference(coalitions=[NAMES]), toy_batch()
    assert not batch.present["vision"][0]
    vision = batch.features["vision"].clone()
    vision[0] = 9.0
    lengths = {**batch.lengths, "vision": torch.ones(len(batch), dtype=torch.long)}
    changed = dataclasses.replace(batch, features={**batch.features, "vision": vision}, lengths=lengths)
    assert torch.equal(model(changed, [EVERYONE])[0], model(batch, [EVERYONE])[0])


def test_a_class_without_an_example_is_as_good_as_impossible():
    table = synthetic_table(tiny_spec("classification", train=120, valid=60))

    def relabelled(dataset):
        dataset.labels = np.where(dataset.labels == 2, 1, dataset.labels)
        return dataset

    run = prepare(RunConfig(model={"name": "concat", "width": 4}), table)
    train, valid = relabelled(run.train), relabelled(run.valid)
    experts = diagnose_datasets(run.task, train, valid).experts
    found = RidgeReference.of(run.task, experts)(whole(valid), [EVERYONE])[0]
    assert found[:, 2].max() < 1e-4
    assert found[:, :2].min() > 0
    assert float((found.argmax(1) == whole(valid).labels).float().mean()) > 0.6


def test_everything_is_state_and_nothing_is_trained():
    model = toy_reference()
    other = RidgeReference(model.task, model.shapes)
    other.load_state_dict(model.state_dict())
    assert not list(model.parameters())
    assert all(torch.equal(*pair) for pair in zip(model(toy_batch(), GAMES), other(toy_batch(), GAMES), strict=True))


def test_a_model_of_another_format_is_refused_by_name(tmp_path):
    folder = toy_model().save_pretrained(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 1}))
    with pytest.raises(PaSEError, match=r"model was to hold a model of format 3 or 4, found 1.*train it again\.$"):
        Model.from_pretrained(folder)
