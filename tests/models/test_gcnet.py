"""GCNet: its graphs and its loss against loops, what speakers and neighbours mean to it, and what it gains by them."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from pase_msa.batch import Batch
from pase_msa.models import conversation
from pase_msa.models.conversation import Conversations
from pase_msa.models.gcnet import RelationalGraph, speaker_relations, temporal_relations
from tests.reference import gcnet
from tests.toys import rows_of, toy_batch, toy_model

VIDEOS = torch.tensor([7, 3, 7, 3, 7, 9, 7])
ROWS = torch.tensor([5, 2, 1, 8, 9, 4, 3])
SPEAKERS = torch.tensor([0, 1, 1, -1, 0, 2, 1])


def conversations(there=None):
    batch = dataclasses.replace(toy_batch(n=7), videos=VIDEOS, rows=ROWS)
    return Conversations.of(batch, torch.ones(7, dtype=torch.bool) if there is None else there)


def pairs(relations, names):
    """Dense relations [R, N, N] as a dict."""
    return {(int(i), int(j)): names[int(r)] for r, i, j in relations.nonzero()}


@pytest.mark.parametrize(("past", "future"), [(1, 1), (2, 1), (0, 2), (0, 0), (9, 9)])
def test_edges_are_those_of_a_naive_loop(past, future):
    relations = temporal_relations(conversations(), past, future)
    expected = gcnet.temporal_edges(VIDEOS.tolist(), ROWS.tolist(), past, future)
    assert pairs(relations, ("past", "now", "future")) == expected
    by_speaker = speaker_relations(relations.any(0), SPEAKERS)
    assert pairs(by_speaker, ("same", "other")) == gcnet.speaker_edges(expected, SPEAKERS.tolist())


def test_the_graph_layers_are_those_of_naive_loops():
    torch.manual_seed(0)
    layer, inputs = RelationalGraph(4, 3, 3), torch.randn(7, 4)
    weights = {name: getattr(layer, name).weight.detach().numpy() for name in ("root", "own", "neighbours")}
    weights |= {f"{name}_bias": getattr(layer, name).bias.detach().numpy() for name in ("root", "own")}
    matrices = (relation.weight.detach().numpy() for relation in layer.relations)
    relations = dict(zip(("past", "now", "future"), matrices, strict=True))
    edges = gcnet.temporal_edges(VIDEOS.tolist(), ROWS.tolist(), 2, 1)
    with torch.no_grad():
        ours = layer(inputs, temporal_relations(conversations(), 2, 1)).numpy()
    np.testing.assert_allclose(ours, gcnet.relational_graph(inputs.numpy(), edges, weights, relations), atol=1e-5)


def test_an_lstm_reads_each_conversation_by_itself_and_in_order():
    torch.manual_seed(0)
    layer, inputs = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), torch.randn(7, 4)
    with torch.no_grad():
        ours = conversations().recur(layer, inputs)
        for video in set(VIDEOS.tolist()):
            members = sorted((i for i in range(7) if VIDEOS[i] == video), key=lambda i: int(ROWS[i]))
            torch.testing.assert_close(ours[members], layer(inputs[members].unsqueeze(0))[0][0])


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("counts", [[4, 1, 6], [5, 5], [1]])
def test_a_processor_and_a_gpu_read_sequences_alike(counts, bidirectional):
    torch.manual_seed(0)
    layer = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=bidirectional)
    padded, counts = torch.randn(len(counts), max(counts), 4, requires_grad=True), torch.tensor(counts)
    one, other = conversation.packed(layer, padded, counts), conversation.by_direction(layer, padded, counts)
    torch.testing.assert_close(one, other)
    gradients = (torch.autograd.grad(states.square().sum(), padded)[0] for states in (one, other))
    torch.testing.assert_close(*gradients)


def test_an_utterance_without_any_modality_is_no_part_of_its_conversation():
    there = torch.ones(7, dtype=torch.bool)
    there[6] = False  # between rows 1 and 5 of video 7
    found = conversations(there)
    assert found.same[6].nonzero().flatten().tolist() == [6]
    assert [int(found.place[i]) for i in (2, 0, 4)] == [0, 1, 2]


def test_the_reconstruction_loss_is_that_of_a_naive_loop():
    model, batch = toy_model("gcnet", hidden=4, graph=4, masking=0.5).train(), toy_batch()
    torch.manual_seed(2)
    outputs = model(batch)
    hidden = {name: flags.numpy() for name, flags in outputs.state.tensors.items()}
    assert all(flags.any() for flags in hidden.values())
    completed = {name: model.complete[name](outputs.fused).detach().numpy() for name in hidden}
    features = {
        name: np.array(
            [
                f[:t].mean(0) if t else np.zeros(f.shape[1])
                for f, t in zip(batch.features[name].numpy(), steps, strict=True)
            ]
        )
        for name, steps in ((name, batch.lengths[name].tolist()) for name in hidden)
    }
    expected = gcnet.reconstruction(completed, features, hidden)
    assert model.losses(outputs, batch)["reconstruction"].item() == pytest.approx(expected, rel=1e-4)


def test_training_hides_present_modalities_and_never_all_of_an_utterance():
    model, batch = toy_model("gcnet", hidden=4, graph=4, masking=0.9).train(), toy_batch()
    for _ in range(5):
        hidden = model(batch).state.tensors
        assert not any((hidden[name] & ~batch.present[name]).any() for name in hidden)
        shown = torch.stack([batch.present[name] & ~hidden[name] for name in hidden])
        assert shown.any(0).all()


def test_nothing_is_hidden_in_evaluation():
    model, batch = toy_model("gcnet", hidden=4, graph=4, masking=0.9).eval(), toy_batch()
    outputs = model(batch)
    assert not any(flags.any() for flags in outputs.state.tensors.values())
    assert model.losses(outputs, batch)["reconstruction"] == 0


def test_only_whether_two_speak_counts_and_not_their_names():
    model, batch = (
        toy_model("gcnet", hidden=4, graph=4).eval(),
        dataclasses.replace(toy_batch(), videos=torch.arange(12) // 6),
    )

    def predicted(speakers):
        numbers = None if speakers is None else torch.tensor(speakers)
        with torch.no_grad():
            return model(dataclasses.replace(batch, speakers=numbers)).logits

    two = predicted([0, 1] * 6)
    torch.testing.assert_close(predicted([5, 2] * 6), two, rtol=0, atol=0)
    torch.testing.assert_close(predicted([4] * 12), predicted(None), rtol=0, atol=0)
    torch.testing.assert_close(predicted([-1] * 12), predicted(None), rtol=0, atol=0)
    assert not torch.allclose(two, predicted(None), atol=1e-4)


def test_without_videos_each_utterance_is_a_conversation():
    model, batch = toy_model("gcnet", hidden=4, graph=4).eval(), toy_batch()
    with torch.no_grad():
        together = model(dataclasses.replace(batch, videos=None)).logits
        alone = torch.cat([model(rows_of(batch, [i])).logits for i in range(12)])
    torch.testing.assert_close(together, alone)


def planted(seed, videos=24, length=6):
    """Text tells one of three classes, audio one of two states of the video.

    The label is the class of the utterance before; that of the first one is its own.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, (videos, length))
    label = np.concatenate([kind[:, :1], kind[:, :-1]], axis=1)
    text = np.zeros((videos, length, 5))
    text[..., :3] = np.eye(3)[kind] * 2
    audio = np.ones((videos, length, 4)) * rng.choice([-1, 1], (videos, 1, 1))
    features = {
        "text": torch.from_numpy(text + rng.normal(0, 0.3, text.shape)).float().flatten(0, 1).unsqueeze(1),
        "audio": torch.from_numpy(audio + rng.normal(0, 0.3, audio.shape)).float().flatten(0, 1).unsqueeze(1),
    }
    n = videos * length
    ones = {name: torch.ones(n, dtype=torch.long) for name in features}
    here = {name: torch.ones(n, dtype=torch.bool) for name in features}
    labels = torch.from_numpy(label).flatten().float()
    return Batch(features, ones, here, labels, torch.arange(n), torch.arange(n) // length)


@pytest.fixture(scope="module")
def trained():
    model = toy_model("gcnet", "classification", ("text", "audio"), hidden=12, graph=12, masking=0.2).train()
    optimizer, batch = torch.optim.Adam(model.parameters(), 0.02), planted(0)
    for _ in range(80):
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return model.eval()


def test_a_label_that_depends_on_the_utterance_before_is_learned_from_the_conversation(trained):
    """From an utterance by itself, 4 of 9 are right at best."""
    fresh = planted(1)
    apart = dataclasses.replace(fresh, videos=None)
    with torch.no_grad():
        together, alone = ((trained(b).logits.argmax(1) == fresh.labels).float().mean() for b in (fresh, apart))
    assert together > 0.75
    assert alone < 0.5


def test_a_hidden_modality_is_completed_from_the_neighbours_that_have_it(trained):
    """Text says nothing of it, so that an utterance by itself has an error of the variance at best."""
    fresh = planted(1)
    absent = torch.arange(len(fresh)) % 2 == 0
    truth = fresh.features["audio"][absent, 0]
    shown = dataclasses.replace(fresh, present={**fresh.present, "audio": ~absent})
    with torch.no_grad():
        completed = trained.complete["audio"](trained(shown).fused)[absent]
    assert (completed - truth).square().mean() < 0.4 * truth.var()
