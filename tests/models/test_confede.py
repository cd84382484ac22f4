"""ConFEDE: partners and loss against naive loops over pairs, and what the loss does to the parts."""

import pytest
import torch
from torch.nn import functional as F

from pase_msa.models.confede import choose_partners, decomposition_loss
from tests.reference import confede
from tests.toys import NAMES, relabelled, toy_batch, toy_model

CLASSES = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])


def inputs(k=3, absent=True):
    """Vectors and both parts, [8, k, 4], and presence."""
    present = torch.ones(8, k, dtype=torch.bool)
    if absent:
        present[0, 0] = present[3, k - 1] = present[5, 0] = False
    vectors, similar, dissimilar = (part * present.unsqueeze(2) for part in torch.randn(3, 8, k, 4))
    return vectors, similar, dissimilar, present


def test_the_loss_of_one_pair_is_the_value_by_hand():
    assert confede.nt_xent(0.9, [0.1, -0.2], 0.5) == pytest.approx(0.27209, abs=1e-5)


def test_an_utterance_of_three_modalities_has_twenty_positive_and_33_negative_pairs():
    positive, negative = confede.pairs(range(3), 0, [1, 2], [3, 4, 5, 6])
    assert (len(set(positive)), len(set(negative))) == (20, 33)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_partners_are_those_of_a_naive_loop(count):
    vectors, _, _, present = inputs()
    index, found = choose_partners(vectors, present, CLASSES, count)
    expected = confede.partners(vectors.numpy(), present.numpy(), CLASSES.numpy(), count)
    for row in range(8):
        thirds = zip(index[row].view(3, count), found[row].view(3, count), strict=True)
        assert [places[there].tolist() for places, there in thirds] == expected[row]


def test_utterances_that_share_no_modality_are_no_partners():
    present = torch.tensor([[True, False], [False, True], [True, False]])
    index, found = choose_partners(torch.randn(3, 2, 4) * present.unsqueeze(2), present, torch.zeros(3).long(), 2)
    assert [index[row][found[row]].tolist() for row in range(3)] == [[2], [], [0]]


@pytest.mark.parametrize(("k", "hub"), [(1, 0), (2, 0), (3, 0), (3, 2)])
@pytest.mark.parametrize("absent", [False, True])
def test_the_loss_is_that_of_a_naive_loop(k, hub, absent):
    vectors, similar, dissimilar, present = inputs(k, absent and k > 1)
    index, found = choose_partners(vectors, present, CLASSES, 2)
    ours = float(decomposition_loss(similar, dissimilar, present, index, found, hub, 0.5))
    parts = [part.double().numpy() for part in (similar, dissimilar)]
    chosen = confede.partners(vectors.numpy(), present.numpy(), CLASSES.numpy(), 2)
    assert ours == pytest.approx(confede.decomposition_loss(*parts, present.numpy(), chosen, hub, 0.5), abs=1e-5)


def test_the_loss_knows_directions_only():
    vectors, similar, dissimilar, present = inputs()
    chosen = choose_partners(vectors, present, CLASSES, 2)
    length = torch.rand(8, 3, 1) + 0.5
    before, after = (
        float(decomposition_loss(similar * scale, dissimilar / scale, present, *chosen, 0, 0.5))
        for scale in (torch.ones(8, 3, 1), length)
    )
    assert after == pytest.approx(before, abs=1e-5)


def test_no_pair_at_all_costs_nothing_and_has_a_finite_gradient():
    similar, present = torch.randn(1, 1, 4, requires_grad=True), torch.ones(1, 1, dtype=torch.bool)
    chosen = choose_partners(similar.detach(), present, torch.zeros(1).long(), 2)
    loss = decomposition_loss(similar, torch.randn(1, 1, 4), present, *chosen, 0, 0.5)
    loss.backward()
    assert float(loss.detach()) == 0
    assert similar.grad.isfinite().all()


def test_scores_near_the_same_class_value_are_of_one_class():
    model, batch = toy_model("confede").eval(), toy_batch(missing=False)

    def contrast(labels):
        with torch.no_grad():
            return float(model.losses(model(batch), relabelled(batch, labels))["contrast"])

    assert contrast(batch.labels * 0.99) == contrast(batch.labels)
    assert contrast(batch.labels.roll(1)) != contrast(batch.labels)


def test_the_parts_of_an_absent_modality_are_zero_behind_the_maps():
    model, batch = toy_model("confede"), toy_batch()
    tensors = model.tensors(model(batch))
    assert not batch.present[NAMES[2]][0]
    for part in tensors.values():
        assert part[0, 2].abs().sum() == 0
        assert part[1, 2].abs().sum() > 0


def class_batch(k):
    """Classes that show in every modality."""
    batch = toy_batch("classification", NAMES[:k], n=36, missing=False)
    for name in NAMES[:k]:
        batch.features[name][:, :, 0] += 2 * (batch.labels.unsqueeze(1) - 1)
    return batch


def trained_parts(batch, contrast=1.0):
    """Both parts after training by the contrastive loss alone."""
    options = {"class_weight": 0.0, "score_weight": 0.0, "unimodal": 0.0, "contrast": contrast, "width": 8}
    model = toy_model("confede", "classification", batch.modalities, **options)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(30):
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return {kind: F.normalize(part, dim=2) for kind, part in model.tensors(model.eval()(batch)).items()}


def test_similar_parts_of_an_utterance_come_together_and_dissimilar_ones_leave():
    def cosines(contrast):
        parts = trained_parts(class_batch(2), contrast)
        hub = parts["similar"][:, 0]
        return [float((hub * parts[kind][:, 1]).sum(1).mean()) for kind in ("similar", "dissimilar")]

    (drawn, apart), (drawn_before, apart_before) = cosines(1.0), cosines(0.0)
    assert drawn > drawn_before + 0.3
    assert apart < apart_before - 0.3


def test_true_partners_part_the_classes_and_those_of_other_utterances_do_not(monkeypatch):
    """In a single modality, where the other pairs, which know no class, have no part in it."""
    batch = class_batch(1)
    same = batch.labels.unsqueeze(1) == batch.labels

    def gap():
        """Of mean cosines between similar parts, within and across the classes."""
        part = trained_parts(batch)["similar"][:, 0]
        cosine = part @ part.T
        return float(cosine[same].mean() - cosine[~same].mean())

    def of_others(*args):
        index, found = choose_partners(*args)
        order = torch.randperm(len(index))
        return index[order], found[order]

    assert gap() > 0.6
    monkeypatch.setattr("pase_msa.models.confede.choose_partners", of_others)
    assert gap() < 0.3
