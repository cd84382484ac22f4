"""MCL-MCF: its contrast and products against naive loops, what is compared with what, and what it makes alike."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.batch import Batch
from pase_msa.errors import PaSEError
from pase_msa.models.mcl_mcf import Comparison, contrast, level_pairs, product_layers
from tests.reference import mcl_mcf
from tests.toys import NAMES, toy_batch, toy_model


def numbers(module):
    return module.weight.detach().double().numpy(), module.bias.detach().double().numpy()


def unit(n, d):
    return torch.nn.functional.normalize(torch.randn(n, d), dim=1)


def test_the_contrast_is_that_of_a_naive_sum():
    x, y, here = unit(5, 3), unit(5, 3), torch.tensor([True, False, True, True, True])
    for marked in (torch.ones(5, dtype=torch.bool), here):
        expected = mcl_mcf.contrast(x.double().numpy(), y.double().numpy(), marked.numpy(), 0.3)
        assert float(contrast(x, y, marked, 0.3)) == pytest.approx(expected, abs=1e-5)


def test_the_contrast_is_symmetric_and_knows_no_order():
    x, y, order, here = unit(6, 3), unit(6, 3), torch.randperm(6), torch.ones(6, dtype=torch.bool)
    value = float(contrast(x, y, here, 0.2))
    assert float(contrast(y, x, here, 0.2)) == pytest.approx(value, abs=1e-6)
    assert float(contrast(x[order], y[order], here, 0.2)) == pytest.approx(value, abs=1e-6)


def test_partners_that_are_alike_cost_little_and_strangers_the_logarithm_of_their_number():
    here = torch.ones(4, dtype=torch.bool)
    assert float(contrast(torch.eye(4), torch.eye(4), here, 0.05)) < 1e-6
    same = torch.ones(4, 1)
    assert float(contrast(same, same, here, 0.05)) == pytest.approx(np.log(4), abs=1e-6)


@pytest.mark.parametrize("marked", [[], [2]])
def test_fewer_than_two_rows_cost_nothing_and_have_a_finite_gradient(marked):
    x, here = unit(4, 3).requires_grad_(), torch.zeros(4, dtype=torch.bool)
    here[marked] = True
    loss = contrast(x, unit(4, 3), here, 0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert x.grad.isfinite().all()


def test_both_sides_are_projected_before_they_become_unit_vectors():
    comparison, x, y = Comparison(3, 4, 5), torch.randn(6, 3), torch.randn(6, 4)
    with torch.no_grad():
        found = comparison(x, y)
    for ours, side, layer in zip(found, (x, y), (comparison.first, comparison.second), strict=True):
        np.testing.assert_allclose(ours, mcl_mcf.projected(side.double().numpy(), *numbers(layer)), atol=1e-5)


def test_products_are_those_of_naive_convolutions():
    model = toy_model("mcl_mcf", shallow=9)
    vectors = {name: torch.randn(2, 6) for name in NAMES}
    with torch.no_grad():
        single, _, products = model.sides(vectors)
        shallow = {name: model.shallow[name](vectors[name]).relu().double().numpy() for name in NAMES}
    assert set(single) == {(name,) for name in NAMES}
    layers = [numbers(layer) for layer in model.products["text+vision"] if isinstance(layer, torch.nn.Conv2d)]
    for row in range(2):
        expected = mcl_mcf.product_vector(shallow["text"][row], shallow["vision"][row], layers)
        np.testing.assert_allclose(products["text", "vision"][row], expected, atol=1e-5)
    assert product_layers()(torch.zeros(1, 1, 9, 9)).shape == (1, 9)


def test_what_is_compared_on_each_level():
    assert level_pairs("t") == ([], [], [])
    assert level_pairs("ta") == ([(("t",), ("a",))], [(("t",), ("a",)), (("a",), ("t",))], [])
    first, second, third = level_pairs("tav")
    assert first == [(("t",), ("a",)), (("t",), ("v",)), (("a",), ("v",))]
    others = [(("t",), ("a", "v")), (("a",), ("t", "v")), (("v",), ("t", "a"))]
    assert second == others + [((name,), ("t", "a", "v")) for name in "tav"]
    assert third == [(("t", "a"), ("t", "v")), (("t", "a"), ("a", "v")), (("t", "v"), ("a", "v"))]
    assert [len(pairs) for pairs in level_pairs("tavx")] == [6, 8, 12], "of 15 pairs of pairs 3 share none"


def test_losses_are_the_sums_over_the_comparisons():
    """Of which those with the hub of all count as one."""
    model, batch = toy_model("mcl_mcf", level1=1.0, level2=1.0, level3=1.0, temperature=0.5), toy_batch(missing=False)
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    single, hubs, products = model.sides(outputs.vectors)
    kinds = ((single, single), (single, hubs), (products, products))
    for level, (pairs, sides) in enumerate(zip(level_pairs(NAMES), kinds, strict=True), 1):
        total = 0.0
        for first, second in pairs:
            comparison = model.comparisons[f"{level}:{'+'.join(first)}|{'+'.join(second)}"]
            x, y = (side.detach().double().numpy() for side in comparison(sides[0][first], sides[1][second]))
            total += mcl_mcf.contrast(x, y, np.ones(len(x)), 0.5) / (3 if len(second) == 3 else 1)
        assert float(losses[f"level{level}"].detach()) == pytest.approx(total, abs=1e-4)


def test_an_utterance_without_a_modality_is_left_out_where_that_takes_part():
    model, batch = toy_model("mcl_mcf", seed=1), toy_batch(missing=False)
    batch.present["vision"][:6] = False

    def losses(first_rows):
        features = {name: part.clone() for name, part in batch.features.items()}
        features["text"][:6] = first_rows
        with torch.no_grad():
            changed = dataclasses.replace(batch, features=features)
            return model.losses(model(changed), changed)

    before, after = losses(1.0), losses(-1.0)
    assert before["level3"] == after["level3"], "each comparison of products takes all three modalities"
    assert before["level1"] != after["level1"]


def shared_batch(n, redundancy, seed):
    """Two modalities, each a map of its own of one latent vector, or of two."""
    generator = torch.Generator().manual_seed(seed)
    latent, other = torch.randn(2, n, 3, generator=generator)
    maps = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(7))
    audio = latent if redundancy else other
    features = {"text": (latent @ maps[0]).unsqueeze(1), "audio": (audio @ maps[1])[:, :4].unsqueeze(1)}
    ones, here = torch.ones(n, dtype=torch.long), torch.ones(n, dtype=torch.bool)
    labels = torch.zeros(n)
    return Batch(features, dict.fromkeys(features, ones), dict.fromkeys(features, here), labels)


def retrieval(redundancy):
    """How often the audio nearest to a new text, out of 32, is the one of its utterance."""
    model = toy_model("mcl_mcf", modalities=NAMES[:2], width=16, shallow=7, hidden=8, level1=1.0, temperature=0.2)
    train, new = shared_batch(64, redundancy, 0), shared_batch(32, redundancy, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(50):
        loss = model.losses(model(train), train)["level1"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vectors = model.eval()(new).vectors
    x, y = model.comparisons["1:text|audio"](vectors["text"], vectors["audio"])
    return float(((x @ y.T).argmax(1) == torch.arange(32)).float().mean())


def test_modalities_of_an_utterance_find_each_other_where_they_share_something():
    assert retrieval(True) > 0.5
    assert retrieval(False) < 0.15


def test_products_that_the_convolutions_would_use_up_are_refused():
    with pytest.raises(PaSEError, match=r"model\.shallow"):
        toy_model("mcl_mcf", shallow=6)
