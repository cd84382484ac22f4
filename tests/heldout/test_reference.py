"""The closed-form reference against a naive computation from its buffers."""

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
AUDIO = frozenset({"audio"})
COALITIONS = [EVERYONE, frozenset({"text"}), frozenset({"audio", "vision"}), frozenset()]
KINDS = {"scores": "regression", "three classes": "classification", "two classes": "classification"}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def diagnosed():
    """Task, training and validation data, and reference of a small clear table, by kind of label."""
    results = {}

    def make(kind):
        if kind not in results:
            sizes = {"train": 160, "valid": 60, "utterances_per_video": 4}
            spec = tiny_spec(KINDS[kind], **sizes)
            modalities = {**spec.modalities, "audio": ModalitySpec(4, length=(1, 3), noise=0.5)}
            classes = 2 if kind == "two classes" else spec.classes
            table = synthetic_table(dataclasses.replace(spec, modalities=modalities, classes=classes))
            run = prepare(RunConfig(model={"name": "concat", "width": 4}), table)
            reference = diagnose_datasets(run.task, run.train, run.valid).reference
            results[kind] = run.task, run.train, run.valid, reference
        return results[kind]

    return make


def whole(dataset):
    return next(iter(evaluation_loader(dataset, len(dataset))))


def naive(task, reference, batch, coalition):
    """Class probabilities [n, k], an utterance and a coalition of the reference at a time, in NumPy."""
    state = {name: value.double().numpy() for name, value in reference.state_dict().items()}
    result = np.zeros((len(batch), task.num_classes))
    for row in range(len(batch)):
        has = [name for name in task.modalities if batch.present[name][row]]
        weights = state["coalition_weights"]
        for place, pattern in enumerate(reference.shapes["patterns"]):
            if set(pattern) == set(has):
                weights = state["pattern_weights"][place]
        result[row] += (1 - weights.sum()) * state["prior"]
        for number, (members, weight) in enumerate(zip(reference.coalitions, weights, strict=True)):
            if not any(name in coalition and batch.present[name][row] for name in members):
                result[row] += weight * state["prior"]
                continue
            parts, phases, top = [], state["offset"].copy(), {}
            for name in members:
                pooled = np.zeros(len(state[f"center_{name}"]))
                if name in coalition and batch.present[name][row]:
                    frames = batch.features[name][row, : batch.lengths[name][row]].double().numpy()
                    values = [column[np.isfinite(column)] for column in frames.T]
                    moments = [v.mean() if len(v) else np.nan for v in values]
                    if len(pooled) > len(values):
                        moments += [v.std() if len(v) else np.nan for v in values]
                    scaled = (np.array(moments) - state[f"center_{name}"]) * state[f"scale_{name}"]
                    pooled = np.nan_to_num(np.clip(scaled, -5, 5), nan=0.0)
                parts.append(pooled @ state[f"matrix_{name}"])
                phases = phases + parts[-1] @ state[f"fourier_{name}"]
                top[name] = (pooled @ state[f"top_{name}"])[None]
            pairs = [pair[0] for pair in ridge.products(top, list(top))]
            joint = np.concatenate([np.cos(phases) * np.sqrt(2 / len(phases)), *pairs])
            predicted = np.concatenate([*parts, joint - state[f"joint_mean_{number}"]]) @ state[f"weights_{number}"]
            logits = predicted @ state["slopes"][number] + state["intercepts"][number]
            exponentials = np.exp(logits - logits.max())
            result[row] += weight * exponentials / exponentials.sum()
    return result


@each_kind
def test_it_predicts_what_a_naive_computation_does(kind, diagnosed):
    task, _, valid, reference = diagnosed(kind)
    batch = whole(valid)
    assert not batch.present["vision"].all()
    for coalition, predicted in zip(COALITIONS, reference(batch, COALITIONS), strict=True):
        np.testing.assert_allclose(predicted.numpy(), naive(task, reference, batch, coalition), atol=1e-4)


@each_kind
def test_what_an_utterance_lost_is_as_if_it_had_never_been_there(kind, diagnosed):
    task, _, valid, reference = diagnosed(kind)
    batch = whole(valid)
    for coalition, predicted in zip(COALITIONS, reference(batch, COALITIONS, lost=True), strict=True):
        masked = batch.only(coalition)
        np.testing.assert_allclose(predicted.numpy(), naive(task, reference, masked, EVERYONE), atol=1e-4)


def test_who_lost_the_best_modality_is_predicted_from_another(diagnosed):
    task, _, valid, reference = diagnosed("scores")
    batch = whole(valid)
    kept, lost = (
        np.corrcoef(task.score(part[0]).numpy(), batch.labels.numpy())[0, 1]
        for part in (reference(batch, [AUDIO]), reference(batch, [AUDIO], lost=True))
    )
    assert lost > max(kept, 0.3)


@each_kind
def test_probabilities_add_up_to_one(kind, diagnosed):
    _, _, valid, reference = diagnosed(kind)
    for predicted in reference(whole(valid), COALITIONS):
        assert torch.allclose(predicted.sum(1), torch.ones(len(predicted)), atol=1e-5)
        assert (predicted >= 0).all()


@each_kind
def test_it_predicts_the_labels_of_new_data(kind, diagnosed):
    task, _, valid, reference = diagnosed(kind)
    batch = whole(valid)
    predicted = reference(batch, [EVERYONE])[0]
    if task.kind == "regression":
        assert np.corrcoef(task.score(predicted).numpy(), batch.labels.numpy())[0, 1] > 0.8
    else:
        assert float((predicted.argmax(1) == batch.labels).float().mean()) > 1.5 / task.num_classes


def test_values_that_are_not_numbers_are_left_out_of_mean_and_deviation(diagnosed):
    task, _, valid, reference = diagnosed("scores")
    batch = whole(valid)
    text = batch.features["text"].clone()
    text[0, 0, 0], text[1, 0, 1], text[2] = np.nan, np.inf, -np.inf
    batch = dataclasses.replace(batch, features={**batch.features, "text": text})
    predicted = reference(batch, [EVERYONE])[0]
    assert predicted.isfinite().all()
    np.testing.assert_allclose(predicted.numpy(), naive(task, reference, batch, EVERYONE), atol=1e-4)


def test_the_only_frame_of_a_sequence_has_no_deviation_over_time(diagnosed):
    task, _, valid, reference = diagnosed("scores")
    batch = whole(valid)
    batch = dataclasses.replace(batch, lengths={name: value.clamp(max=1) for name, value in batch.lengths.items()})
    predicted = reference(batch, [EVERYONE])[0]
    np.testing.assert_allclose(predicted.numpy(), naive(task, reference, batch, EVERYONE), atol=1e-4)


@pytest.mark.parametrize("value", [7.0, 1e30, float("nan"), float("inf")])
def test_padding_is_never_read(value):
    model, batch = toy_reference(), toy_batch()
    expected = model(batch, COALITIONS)
    features = {name: torch.nn.functional.pad(part, (0, 0, 0, 3)) for name, part in batch.features.items()}
    for name, part in features.items():
        part[torch.arange(part.shape[1]) >= batch.lengths[name].unsqueeze(1)] = value
    for one, two in zip(model(dataclasses.replace(batch, features=features), COALITIONS), expected, strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_a_prediction_depends_neither_on_other_utterances_nor_on_their_order():
    model, batch = toy_reference(), toy_batch()
    together, order = model(batch, [EVERYONE])[0], torch.randperm(len(batch))
    assert torch.allclose(model(rows_of(batch, order), [EVERYONE])[0], together[order], atol=1e-6)
    alone = torch.cat([model(rows_of(batch, [row]), [EVERYONE])[0] for row in range(len(batch))])
    assert torch.allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("name", ["text", "audio"])
def test_a_masked_modality_counts_as_absent_and_as_average(name, diagnosed):
    _, _, valid, reference = diagnosed("scores")
    batch = whole(valid)
    masked = reference(batch, [EVERYONE - {name}])[0]
    alone = reference(batch.only(EVERYONE - {name}), [EVERYONE])[0]
    assert torch.equal(alone, reference(batch, [EVERYONE - {name}], lost=True)[0])
    # two frames whose mean and deviation are those of the training split
    mean, deviation = getattr(reference, f"center_{name}").chunk(2)
    frames = torch.stack([mean - deviation, mean + deviation]).expand(len(batch), 2, len(mean))
    average = dataclasses.replace(
        batch,
        features={**batch.features, name: frames},
        lengths={**batch.lengths, name: torch.full((len(batch),), 2)},
        present={**batch.present, name: torch.ones(len(batch), dtype=torch.bool)},
    )
    assert torch.allclose(reference(average, [EVERYONE])[0], masked, atol=1e-4)


def test_the_features_of_an_absent_modality_are_never_read():
    model, batch = toy_reference(coalitions=[NAMES]), toy_batch()
    assert not batch.present["vision"][0]
    vision = batch.features["vision"].clone()
    vision[0] = 9.0
    lengths = {**batch.lengths, "vision": torch.ones(len(batch), dtype=torch.long)}
    changed = dataclasses.replace(batch, features={**batch.features, "vision": vision}, lengths=lengths)
    assert torch.equal(model(changed, [EVERYONE])[0], model(batch, [EVERYONE])[0])


def test_a_class_without_an_example_has_almost_no_probability():
    table = synthetic_table(tiny_spec("classification", train=120, valid=60))

    def relabelled(dataset):
        dataset.labels = np.where(dataset.labels == 2, 1, dataset.labels)
        return dataset

    run = prepare(RunConfig(model={"name": "concat", "width": 4}), table)
    train, valid = relabelled(run.train), relabelled(run.valid)
    reference = diagnose_datasets(run.task, train, valid).reference
    predicted = reference(whole(valid), [EVERYONE])[0]
    assert predicted[:, 2].max() < 1e-4
    assert predicted[:, :2].min() > 0
    assert float((predicted.argmax(1) == whole(valid).labels).float().mean()) > 0.6


def test_all_state_is_in_buffers_and_nothing_is_trained():
    model = toy_reference()
    other = RidgeReference(model.task, model.shapes)
    other.load_state_dict(model.state_dict())
    assert not list(model.parameters())
    assert all(
        torch.equal(*pair) for pair in zip(model(toy_batch(), COALITIONS), other(toy_batch(), COALITIONS), strict=True)
    )


def test_a_model_of_another_format_is_refused(tmp_path):
    folder = toy_model().save_pretrained(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 1}))
    with pytest.raises(PaSEError, match=r"model was to hold a model of format 3 to 6, found 1.*train it again\.$"):
        Model.from_pretrained(folder)
