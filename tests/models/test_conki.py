"""ConKI: its contrast against a naive sum and closed forms, and what the contrast does to the two kinds of vectors."""

import math

import pytest
import torch
from torch.nn import functional as F

from pase_msa.models.conki import Adapter, knowledge_contrast
from tests.reference import conki
from tests.toys import NAMES, toy_batch, toy_model

KINDS = torch.tensor([0, 1] * 3)
CLASSES = torch.tensor([1, 0, 1])


def found(vectors, here=None, temperature=0.07):
    here = torch.ones(vectors.shape[:2], dtype=torch.bool) if here is None else here
    return float(knowledge_contrast(vectors, KINDS[: len(vectors)], CLASSES, here, temperature))


def expected(vectors, here=None, temperature=0.07):
    count, utterances, _ = vectors.shape
    places = [(v, n) for v in range(count) for n in range(utterances) if here is None or here[v, n]]
    listed = [(int(KINDS[v]), int(CLASSES[n]), vectors[v, n].double().numpy()) for v, n in places]
    return conki.contrast(listed, temperature)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_the_contrast_is_that_of_a_naive_sum(temperature):
    vectors = torch.randn(6, 3, 5)
    assert found(vectors, temperature=temperature) == pytest.approx(
        expected(vectors, temperature=temperature), rel=1e-4
    )


def test_absent_vectors_are_neither_anchors_nor_positives_nor_among_the_others():
    vectors, here = torch.randn(6, 3, 5), torch.ones(6, 3, dtype=torch.bool)
    here[2:4, 0] = False
    here[:, 1] = False
    assert found(vectors, here) == pytest.approx(expected(vectors, here), rel=1e-4)


def test_kinds_that_are_orthogonal_and_each_one_vector_have_the_value_of_the_closed_form():
    vectors = torch.eye(2)[KINDS].unsqueeze(1).expand(6, 3, 2)
    whole = 8 * math.exp(1 / 0.07) + 9  # three modalities of three utterances of one class
    value = knowledge_contrast(vectors, KINDS, torch.zeros(3).long(), torch.ones(6, 3, dtype=torch.bool), 0.07)
    assert float(value) == pytest.approx(math.log(whole) - 1 / 0.07, abs=1e-4)


def test_one_utterance_of_one_modality_has_no_contrast_and_a_finite_gradient():
    vectors = torch.randn(2, 1, 4, requires_grad=True)
    value = knowledge_contrast(vectors, KINDS[:2], CLASSES[:1], torch.ones(2, 1, dtype=torch.bool), 0.07)
    value.backward()
    assert value == 0
    assert vectors.grad.isfinite().all()


def test_lengths_of_vectors_do_not_count():
    vectors = torch.randn(6, 3, 5)
    assert found(vectors * torch.rand(6, 3, 1).add(0.5)) == pytest.approx(found(vectors), rel=1e-4)


def test_scores_are_of_one_class_where_they_are_nearest_to_the_same_class_value():
    model, batch = toy_model("conki"), toy_batch(missing=False)
    moved = toy_batch(missing=False)
    moved.labels = (batch.labels + 0.3).clamp(max=3)
    outputs = model(batch)
    first, second = (model.losses(outputs, given)["contrast"] for given in (batch, moved))
    assert torch.equal(first, second)


def test_an_adapter_begins_as_the_identity():
    frames, valid = torch.randn(3, 4, 8), torch.arange(4) < torch.tensor([[4], [2], [0]])
    assert (Adapter(8, 2, 0.0)(frames, valid) - frames).abs().max() < 0.02


def test_an_adapter_reads_no_padding():
    adapter = Adapter(8, 1, 0.0).eval()
    with torch.no_grad():
        for outer in (adapter.down, adapter.up):
            outer.weight.copy_(torch.eye(8))
    frames, valid = torch.randn(1, 4, 8), torch.tensor([[True, True, False, False]])
    changed = frames.clone()
    changed[:, 2:] = 5.0
    torch.testing.assert_close(adapter(frames, valid)[:, :2], adapter(changed, valid)[:, :2])


@pytest.fixture(scope="module")
def kinds():
    """Vectors [N, 2, D] of both kinds by modality, before and after some steps of the contrast alone, and classes."""
    torch.manual_seed(0)
    batch = toy_batch(modalities=NAMES[:2], n=28, missing=False)
    options = {"contrast": 1.0, "temperature": 0.5, "class_weight": 0.0, "score_weight": 0.0, "layers": 1}
    model = toy_model("conki", modalities=NAMES[:2], width=8, **options)

    def now():
        tensors = model(batch).state.tensors
        return {name: tensors[f"kinds/{name}"].detach() for name in NAMES[:2]}

    before, optimizer = now(), torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(30):
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return before, now(), batch.labels


def test_the_contrast_draws_the_two_kinds_of_a_modality_apart(kinds):
    before, after, _ = kinds
    for name in NAMES[:2]:
        alike = [float(F.cosine_similarity(state[name][:, 0], state[name][:, 1]).mean()) for state in (before, after)]
        assert alike[0] > 0.98
        assert alike[1] < 0


def test_the_contrast_draws_modalities_together_within_a_kind(kinds):
    before, after, _ = kinds
    alike = [float(F.cosine_similarity(state["text"], state["audio"], dim=2).mean()) for state in (before, after)]
    assert alike[1] > alike[0] + 0.5


def test_the_contrast_draws_utterances_of_a_class_together(kinds):
    def lead(state):
        """By how much vectors of a class are more alike than those of different ones."""
        unit = F.normalize(state["text"][:, 1], dim=1)
        same, own = labels.unsqueeze(1) == labels, torch.eye(len(labels), dtype=torch.bool)
        return float((unit @ unit.T)[same & ~own].mean() - (unit @ unit.T)[~same].mean())

    before, after, labels = kinds
    assert lead(after) > lead(before) + 0.02
