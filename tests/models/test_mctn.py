"""MCTN: pooling and translation against naive loops, the cycle, and that the source alone is read."""

import numpy as np
import pytest
import torch
from torch import nn

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.base import build_model
from pase_msa.models.mctn import attention_pool
from pase_msa.task import Task
from tests.reference import mctn as reference
from tests.toys import NAMES, toy_batch, toy_inputs, toy_model, toy_task


def test_pooling_is_that_of_a_naive_loop():
    states, logits = torch.randn(3, 5, 4), 2 * torch.randn(3, 5)
    expected = reference.attention_pool(states.numpy(), logits.numpy())
    np.testing.assert_allclose(attention_pool(states, logits).numpy(), expected, atol=1e-5)


def test_a_translation_is_compared_with_the_targets_own_frames_where_both_are_there():
    model, batch = toy_model("mctn", steps=3), toy_batch()
    batch.present["text"][3] = False
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    decoded = model.decoders[1](outputs.state.tensors["level/1"])
    guess = model.readouts["vision"](decoded).detach().numpy()
    both = (batch.present["text"] & batch.present["vision"]).tolist()
    assert both.count(False) == 2
    frames = batch.features["vision"].numpy()
    targets = [
        reference.resampled(row, int(length), 3) if length else np.zeros((3, 3))
        for row, length in zip(frames, batch.lengths["vision"], strict=True)
    ]
    expected = 0.1 * reference.translation_error(guess, targets, both)
    assert losses["translation/vision"].item() == pytest.approx(expected, rel=1e-4)


def test_with_networks_that_change_nothing_a_translation_errs_by_the_difference_and_the_way_back_not_at_all():
    task, inputs = toy_task(modalities=NAMES[:2]), {name: InputSpec(4) for name in NAMES[:2]}
    model = build_model("mctn", task, inputs, {"width": 4, "steps": 3})
    for parts in (model.levels, model.decoders):
        parts[0] = nn.Identity()
    for name in task.modalities:
        model.readouts[name] = model.encoders[name].project = nn.Identity()
    ones, x = torch.ones(6, dtype=torch.bool), {name: torch.randn(6, 3, 4) for name in task.modalities}
    batch = Batch(x, dict.fromkeys(x, 3 * ones.long()), dict.fromkeys(x, ones), torch.zeros(6))
    losses = model.losses(model(batch), batch)
    expected = 0.1 * (x["text"] - x["audio"]).square().mean()
    torch.testing.assert_close(losses["translation/audio"], expected)
    assert losses["cycle"] < 1e-10


def test_an_utterance_without_the_source_is_predicted_as_the_class_prior():
    model, batch = toy_model("mctn").eval(), toy_batch()
    model.fit_prior(batch.labels)
    batch.present["text"][2] = False
    found = model(batch).probabilities
    torch.testing.assert_close(found[2], model.class_prior)
    assert not torch.allclose(found[1], model.class_prior, atol=1e-3)


def test_predictions_are_the_same_bit_for_bit_without_the_targets():
    model, batch = toy_model("mctn").eval(), toy_batch()
    assert torch.equal(model(batch).probabilities, model(batch.only(["text"])).probabilities)


def test_any_modality_can_be_the_source_and_no_other_name():
    model, batch = toy_model("mctn", source="vision").eval(), toy_batch()
    assert model.reads == ("vision",)
    assert torch.equal(model(batch).probabilities, model(batch.only(["vision"])).probabilities)
    with pytest.raises(PaSEError, match=r"model\.source of mctn is one of text, audio, vision, not 'sound'"):
        toy_model("mctn", source="sound")


def test_one_modality_alone_is_not_translated():
    model, batch = toy_model("mctn", modalities=NAMES[:1]), toy_batch(modalities=NAMES[:1])
    assert set(model.losses(model(batch), batch)) == {"class", "score"}


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_target_of_token_ids_is_refused():
    inputs = toy_inputs(NAMES[:2]) | {"text": InputSpec(0)}
    with pytest.raises(PaSEError, match="translates to frames, and text has token ids"):
        build_model("mctn", toy_task(modalities=NAMES[:2]), inputs, {"source": "audio"})


def noisy_pair(shared, n, seed):
    """A target that shows the class, and a source that does so with much noise in it, or not at all."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    signal = (2.0 * labels - 1).view(-1, 1, 1)
    text = (0.7 * signal if shared else 0.0) + torch.randn(n, 2, 6, generator=generator)
    audio = 2.0 * signal + 0.1 * torch.randn(n, 2, 3, generator=generator)
    ones, names = torch.ones(n, dtype=torch.bool), ("text", "audio")
    lengths = dict.fromkeys(names, 2 * ones.long())
    return Batch({"text": text, "audio": audio}, lengths, dict.fromkeys(names, ones), labels.float())


def trained(shared, translation):
    """A model, and the shares of right predictions on new utterances, and of the target's variance that it explains."""
    torch.manual_seed(0)
    task = Task.classification(("text", "audio"), ("no", "yes"))
    inputs = {"text": InputSpec(6), "audio": InputSpec(3)}
    options = {"width": 8, "steps": 2, "dropout": 0.0, "translation": translation}
    model, batch = build_model("mctn", task, inputs, options).train(), noisy_pair(shared, 64, 0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(50):
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    test = noisy_pair(shared, 1000, 1)
    with torch.no_grad():
        outputs = model.eval()(test)
        guess = model.readouts["audio"](model.decoders[0](outputs.state.tensors["level/0"]))
    explained = 1 - (guess - test.features["audio"]).square().mean() / test.features["audio"].var()
    return float((outputs.logits.argmax(1) == test.labels).float().mean()), float(explained)


def test_a_target_is_translated_as_far_as_the_source_shows_it():
    assert trained(shared=True, translation=1.0)[1] > 0.4
    assert trained(shared=True, translation=0.0)[1] < 0.1


def test_a_label_that_the_target_alone_shows_is_predicted_at_chance():
    assert trained(shared=False, translation=1.0)[0] == pytest.approx(0.5, abs=0.06)
