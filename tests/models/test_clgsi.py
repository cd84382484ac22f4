"""CLGSI: weights, contrast and fusion against naive loops, what self pairs hide, and what the contrast orders."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pase_msa.models.clgsi import intensity_loss, pair_weights
from tests.reference import clgsi
from tests.toys import NAMES, relabelled, toy_batch, toy_model


def distances(scores):
    return (scores.unsqueeze(0) - scores.unsqueeze(1)).abs()


@pytest.mark.parametrize(
    ("distance", "expected"), [(0.0, (0.996, 0)), (0.4, (0.570, 0)), (0.41, (0, 0.466)), (2.0, (0, 1.157))]
)
def test_a_pair_is_weighted_by_the_distance_of_its_scores(distance, expected):
    found = [float(weight) for weight in pair_weights(torch.tensor([[distance]]), 0.4)]
    assert found == pytest.approx(expected, abs=1e-3)
    assert found == pytest.approx(clgsi.weights(distance, 0.4))


@pytest.mark.parametrize("self_pairs", [False, True])
@pytest.mark.parametrize("pair", [False, True], ids=["alone", "pair"])
def test_the_loss_of_one_side_is_that_of_a_naive_loop(pair, self_pairs):
    a, b = F.normalize(torch.randn(2, 7, 4, dtype=torch.float64), dim=2)
    scores = 2 * torch.rand(7, dtype=torch.float64) - 1
    weights, other = pair_weights(distances(scores), 0.4), b if pair else None
    found = intensity_loss(a, other, *weights, 0.2, self_pairs=self_pairs)
    expected = clgsi.side(a.numpy(), b.numpy() if pair else None, scores.tolist(), 0.2, 0.4, self_pairs)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("self_pairs", [False, True])
def test_the_contrast_of_a_batch_with_absent_modalities_is_that_of_a_naive_loop(k, self_pairs):
    names = NAMES[:k]
    model = toy_model("clgsi", modalities=names, common=8, contrast=0.7, temperature=0.3, self_pairs=self_pairs)
    batch = toy_batch(modalities=names)
    batch.present[names[0]][4] = k == 1
    outputs = model(batch)
    vectors = {name: part.detach().double().numpy() for name, part in model.tensors(outputs).items()}
    # a ReLU may leave nothing of a vector, which then has no direction
    assert all((np.linalg.norm(vectors[n][batch.present[n]], axis=1) > 1e-3).all() for n in names)
    present = {name: flags.tolist() for name, flags in batch.present.items()}
    expected = clgsi.contrast(vectors, present, (batch.labels / 3).tolist(), 0.3, 0.4, self_pairs)
    assert float(model.losses(outputs, batch)["contrast"].detach()) == pytest.approx(0.7 * expected, rel=1e-4)


def test_classes_without_order_are_near_or_far_and_nothing_between():
    model, batch = toy_model("clgsi", "classification"), toy_batch("classification", missing=False)
    outputs = model(batch)
    found = model.losses(outputs, batch)["contrast"]
    merged = relabelled(batch, batch.labels.clamp(max=1))
    swapped = relabelled(batch, (batch.labels + 1) % 3)
    torch.testing.assert_close(model.losses(outputs, swapped)["contrast"], found)
    assert not torch.isclose(model.losses(outputs, merged)["contrast"], found)


def test_the_fused_vector_is_that_of_naive_maps_of_each_coordinate():
    model, batch = toy_model("clgsi", common=4, hidden=3).eval(), toy_batch()
    with torch.no_grad():
        outputs = model(batch)
    common = {name: part.numpy() for name, part in model.tensors(outputs).items()}
    maps = [model.kernel[place] for place in (0, 2, 3)]
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in maps]
    mix = (model.mix.weight.detach().numpy()[0], float(model.mix.bias.detach()))
    join = model.join[1]
    for row in range(len(batch)):
        pieces = [clgsi.mixed([common[n][row] for n in NAMES], mix, layers, float(model.kernel[1].weight.detach()))]
        for name in NAMES:
            reduce, expand = model.specific[name][0], model.specific[name][2]
            parts = (reduce.weight, reduce.bias, expand.weight)
            vector = clgsi.specific(outputs.vectors[name][row].numpy(), *(p.detach().numpy() for p in parts))
            pieces.append(vector * bool(batch.present[name][row]))
        expected = join.weight.detach().numpy() @ np.concatenate(pieces) + join.bias.detach().numpy()
        np.testing.assert_allclose(outputs.fused[row].numpy(), expected, atol=1e-5)


def test_the_pair_of_a_vector_with_itself_hides_all_others_at_the_published_temperature():
    """Nothing is alike here, and yet the published loss is nearly 0."""
    a, b = F.normalize(torch.randn(2, 32, 64, dtype=torch.float64), dim=2)
    weights = pair_weights(distances(torch.linspace(-1, 1, 32, dtype=torch.float64)), 0.4)
    assert intensity_loss(a, b, *weights, 0.03, self_pairs=True) < 2e-3
    assert intensity_loss(a, b, *weights, 0.03) > 0.5


def test_where_cosines_do_not_matter_the_loss_counts_pairs():
    a, b = F.normalize(torch.randn(2, 4, 3), dim=2)
    weights = pair_weights(distances(torch.tensor([-1.0, -1.0, 1.0, 1.0])), 0.4)
    # of each row: its class mate and itself in b, the mate in a; two of the others in each
    assert float(intensity_loss(a, b, *weights, 1e6)) == pytest.approx(np.log(7 / 3), abs=1e-4)


def test_an_utterance_without_any_partner_costs_nothing_and_has_a_finite_gradient():
    a = torch.randn(1, 3, requires_grad=True)
    weights = pair_weights(torch.zeros(1, 1), 0.4)
    loss = intensity_loss(F.normalize(a, dim=1), None, *weights, 0.03)
    loss.backward()
    assert float(loss.detach()) == 0
    assert a.grad.isfinite().all()


def correlation_with_distance(contrast):
    """Of the distance of scores with the cosine between the modalities' vectors, after training.

    The temperature is mild: with a sharp one, a single pair is all of the numerator.
    """
    batch = toy_batch(modalities=NAMES[:2], n=28, missing=False)
    for name in NAMES[:2]:
        batch.features[name][:, :, 0] += batch.labels.unsqueeze(1)
    options = {"contrast": contrast, "temperature": 0.5, "common": 8}
    model = toy_model("clgsi", modalities=NAMES[:2], **options)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        one, two = (F.normalize(part, dim=1) for part in model.tensors(model.eval()(batch)).values())
    apart = ~torch.eye(len(batch), dtype=torch.bool)
    pairs = torch.stack([(one @ two.T)[apart], distances(batch.labels)[apart]])
    return float(torch.corrcoef(pairs)[0, 1])


def test_the_contrast_orders_the_cosines_by_the_distance_of_the_scores():
    assert correlation_with_distance(1.0) < min(-0.6, correlation_with_distance(0.0) - 0.15)
